// Package apps describes the API group apps: workloads that keep replicas running.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"

	"podium.dev/podium/internal/registry/apps/controllerrevision"
	"podium.dev/podium/internal/registry/apps/daemonset"
	"podium.dev/podium/internal/registry/apps/deployment"
	"podium.dev/podium/internal/registry/apps/replicaset"
	"podium.dev/podium/internal/registry/apps/statefulset"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "apps",
		Priority: 17800,
		Versions: []kit.Version{
			{GroupVersion: appsv1.SchemeGroupVersion, AddToScheme: appsv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			controllerrevision.Kind(),
			daemonset.Kind(),
			deployment.Kind(),
			replicaset.Kind(),
			statefulset.Kind(),
		},
	}
}
