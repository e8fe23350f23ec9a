// Package policy describes the API group policy: disruption budgets.
package policy

import (
	policyv1 "k8s.io/api/policy/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/policy/poddisruptionbudget"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "policy",
		Priority: 17100,
		Versions: []kit.Version{
			{GroupVersion: policyv1.SchemeGroupVersion, AddToScheme: policyv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			poddisruptionbudget.Kind(),
		},
	}
}
