// Package discovery describes the API group discovery.k8s.io: endpoint slices.
package discovery

import (
	discoveryv1 "k8s.io/api/discovery/v1"

	"podium.dev/podium/internal/registry/discovery/endpointslice"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "discovery.k8s.io",
		Priority: 16200,
		Versions: []kit.Version{
			{GroupVersion: discoveryv1.SchemeGroupVersion, AddToScheme: discoveryv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			endpointslice.Kind(),
		},
	}
}
