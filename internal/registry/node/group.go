// Package node describes the API group node.k8s.io: runtime classes.
package node

import (
	nodev1 "k8s.io/api/node/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/node/runtimeclass"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "node.k8s.io",
		Priority: 16300,
		Versions: []kit.Version{
			{GroupVersion: nodev1.SchemeGroupVersion, AddToScheme: nodev1.AddToScheme},
		},
		Kinds: []kit.Kind{
			runtimeclass.Kind(),
		},
	}
}
