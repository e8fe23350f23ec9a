// Package batch describes the API group batch: workloads that end.
package batch

import (
	batchv1 "k8s.io/api/batch/v1"

	"podium.dev/podium/internal/registry/batch/cronjob"
	"podium.dev/podium/internal/registry/batch/job"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "batch",
		Priority: 17400,
		Versions: []kit.Version{
			{GroupVersion: batchv1.SchemeGroupVersion, AddToScheme: batchv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			cronjob.Kind(),
			job.Kind(),
		},
	}
}
