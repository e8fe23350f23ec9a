// Package networking describes the API group networking.k8s.io: ingresses, network policies and address ranges.
package networking

import (
	networkingv1 "k8s.io/api/networking/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/networking/ingress"
	"podium.dev/podium/internal/registry/networking/ingressclass"
	"podium.dev/podium/internal/registry/networking/ipaddress"
	"podium.dev/podium/internal/registry/networking/networkpolicy"
	"podium.dev/podium/internal/registry/networking/servicecidr"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "networking.k8s.io",
		Priority: 17200,
		Versions: []kit.Version{
			{GroupVersion: networkingv1.SchemeGroupVersion, AddToScheme: networkingv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			ingress.Kind(),
			ingressclass.Kind(),
			ipaddress.Kind(),
			networkpolicy.Kind(),
			servicecidr.Kind(),
		},
	}
}
