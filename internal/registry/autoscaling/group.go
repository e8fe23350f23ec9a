// Package autoscaling describes the API group autoscaling: autoscalers.
package autoscaling

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"podium.dev/podium/internal/registry/autoscaling/horizontalpodautoscaler"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "autoscaling",
		Priority: 17500,
		Versions: []kit.Version{
			{GroupVersion: autoscalingv2.SchemeGroupVersion, AddToScheme: autoscalingv2.AddToScheme},
			{GroupVersion: autoscalingv1.SchemeGroupVersion, AddToScheme: autoscalingv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			horizontalpodautoscaler.Kind(),
		},
	}
}
