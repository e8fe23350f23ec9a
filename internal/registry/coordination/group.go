// Package coordination describes the API group coordination.k8s.io: leases.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"

	"podium.dev/podium/internal/registry/coordination/lease"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "coordination.k8s.io",
		Priority: 16500,
		Versions: []kit.Version{
			{GroupVersion: coordinationv1.SchemeGroupVersion, AddToScheme: coordinationv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			lease.Kind(),
		},
	}
}
