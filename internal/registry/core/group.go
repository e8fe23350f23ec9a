// Package core describes the core group: nodes, Pods, Services and what they need.
package core

import (
	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/registry/core/configmap"
	"podium.dev/podium/internal/registry/core/endpoints"
	"podium.dev/podium/internal/registry/core/event"
	"podium.dev/podium/internal/registry/core/limitrange"
	"podium.dev/podium/internal/registry/core/namespace"
	"podium.dev/podium/internal/registry/core/node"
	"podium.dev/podium/internal/registry/core/persistentvolume"
	"podium.dev/podium/internal/registry/core/persistentvolumeclaim"
	"podium.dev/podium/internal/registry/core/pod"
	"podium.dev/podium/internal/registry/core/podtemplate"
	"podium.dev/podium/internal/registry/core/replicationcontroller"
	"podium.dev/podium/internal/registry/core/resourcequota"
	"podium.dev/podium/internal/registry/core/secret"
	"podium.dev/podium/internal/registry/core/service"
	"podium.dev/podium/internal/registry/core/serviceaccount"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Priority: 18000,
		Versions: []kit.Version{
			{GroupVersion: corev1.SchemeGroupVersion, AddToScheme: corev1.AddToScheme},
		},
		Kinds: []kit.Kind{
			configmap.Kind(),
			endpoints.Kind(),
			event.Kind(),
			limitrange.Kind(),
			namespace.Kind(),
			node.Kind(),
			persistentvolume.Kind(),
			persistentvolumeclaim.Kind(),
			pod.Kind(),
			podtemplate.Kind(),
			replicationcontroller.Kind(),
			resourcequota.Kind(),
			secret.Kind(),
			service.Kind(),
			serviceaccount.Kind(),
		},
	}
}
