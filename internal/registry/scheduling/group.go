// Package scheduling describes the API group scheduling.k8s.io: priority classes.
package scheduling

import (
	schedulingv1 "k8s.io/api/scheduling/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/scheduling/priorityclass"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "scheduling.k8s.io",
		Priority: 16600,
		Versions: []kit.Version{
			{GroupVersion: schedulingv1.SchemeGroupVersion, AddToScheme: schedulingv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			priorityclass.Kind(),
		},
	}
}
