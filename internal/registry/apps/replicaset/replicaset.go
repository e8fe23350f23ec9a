// Package replicaset serves apps/v1 replicasets.
package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

var parts = specstatus.Halves[*appsv1.ReplicaSet, appsv1.ReplicaSetSpec, appsv1.ReplicaSetStatus]{
	Spec:       func(r *appsv1.ReplicaSet) *appsv1.ReplicaSetSpec { return &r.Spec },
	Status:     func(r *appsv1.ReplicaSet) *appsv1.ReplicaSetStatus { return &r.Status },
	Generation: true,
}

// Kind returns the kind ReplicaSet.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*appsv1.ReplicaSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Resource:   "replicasets",
		Singular:   "replicaset",
		ShortNames: []string{"rs"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		NewList:    func() runtime.Object { return &appsv1.ReplicaSetList{} },

		Default: func(r *appsv1.ReplicaSet) {
			podspec.DefaultTemplate(&r.Spec.Template)
			if r.Spec.Replicas == nil {
				r.Spec.Replicas = new(int32(1))
			}
		},
		Prepare: func(ctx context.Context, r *appsv1.ReplicaSet) {
			podspec.PruneTemplate(&r.Spec.Template)
			parts.Prepare(ctx, r)
		},
		Validate: func(_ context.Context, r *appsv1.ReplicaSet) field.ErrorList {
			faults := validate.Meta(&r.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
			return append(faults, checkSpec(&r.Spec, nil, field.NewPath("spec"))...)
		},
		PrepareUpdate: func(ctx context.Context, r, old *appsv1.ReplicaSet) {
			podspec.PruneTemplate(&r.Spec.Template)
			parts.PrepareUpdate(ctx, r, old)
		},
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*appsv1.ReplicaSet]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		Table: table(),
		Connect: func(env kit.Env) (map[string]rest.Storage, error) {
			return map[string]rest.Storage{"scale": workload.NewScale(env, workload.Scaled[*appsv1.ReplicaSet]{
				GroupVersion: appsv1.SchemeGroupVersion,
				Resource:     "replicasets",
				Wanted:       func(r *appsv1.ReplicaSet) **int32 { return &r.Spec.Replicas },
				Current:      func(r *appsv1.ReplicaSet) int32 { return r.Status.Replicas },
				Selector:     func(r *appsv1.ReplicaSet) (string, error) { return workload.LabelSelector(r.Spec.Selector) },
			})}, nil
		},
	})
}

func checkUpdate(_ context.Context, r, old *appsv1.ReplicaSet) field.ErrorList {
	path := field.NewPath("spec")
	faults := validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkSpec(&r.Spec, &old.Spec.Template, path)...)
	return append(faults, validate.Immutable(r.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
}

// checkSpec validates a spec. old is the stored template, or nil.
func checkSpec(s *appsv1.ReplicaSetSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	faults := workload.NonNegative(path, workload.Optional("replicas", s.Replicas), workload.Number("minReadySeconds", s.MinReadySeconds))
	return append(faults, workload.SelectorAndTemplate(s.Selector, &s.Template, old, "deployment", "ReplicaSet", path)...)
}

func checkStatusUpdate(_ context.Context, r, old *appsv1.ReplicaSet) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	labeled := workload.Number("fullyLabeledReplicas", s.FullyLabeledReplicas)
	ready := workload.Number("readyReplicas", s.ReadyReplicas)
	available := workload.Number("availableReplicas", s.AvailableReplicas)
	faults := validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, workload.NonNegative(path,
		workload.Number("replicas", s.Replicas), labeled, ready, available,
		workload.Number("observedGeneration", s.ObservedGeneration),
		workload.Optional("terminatingReplicas", s.TerminatingReplicas),
	)...)
	faults = append(faults, workload.AtMost(s.Replicas, "status.replicas", path, labeled, ready, available)...)
	return append(faults, workload.AtMost(s.ReadyReplicas, "readyReplicas", path, available)...)
}

func warn(_ context.Context, r, old *appsv1.ReplicaSet) (warnings []string) {
	if old == nil {
		warnings = workload.WarnName(r.Name)
	} else if r.Generation == old.Generation {
		return nil
	}
	return append(warnings, podspec.WarnTemplate(&r.Spec.Template, field.NewPath("spec", "template"))...)
}

func table() *kit.Table[*appsv1.ReplicaSet] {
	wanted, there := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	columns := append([]column.Definition{
		column.Name(),
		column.Integer("Desired", wanted["replicas"]),
		column.Integer("Current", there["replicas"]),
		column.Integer("Ready", there["readyReplicas"]),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*appsv1.ReplicaSet]{
		Columns: append(columns, column.Wide(column.Text("Selector", wanted["selector"]))),
		Row: func(r *appsv1.ReplicaSet) ([]any, []metav1.TableRowCondition) {
			names, images := workload.Containers(r.Spec.Template.Spec.Containers)
			return []any{
				r.Name, workload.Replicas(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
				column.Since(r.CreationTimestamp), names, images, metav1.FormatLabelSelector(r.Spec.Selector),
			}, nil
		},
	}
}
