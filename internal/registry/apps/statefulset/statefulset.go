// Package statefulset serves apps/v1 statefulsets.
package statefulset

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/core/persistentvolumeclaim"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

var parts = specstatus.Halves[*appsv1.StatefulSet, appsv1.StatefulSetSpec, appsv1.StatefulSetStatus]{
	Spec:       func(s *appsv1.StatefulSet) *appsv1.StatefulSetSpec { return &s.Spec },
	Status:     func(s *appsv1.StatefulSet) *appsv1.StatefulSetStatus { return &s.Status },
	Generation: true,
}

// Kind returns the kind StatefulSet.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*appsv1.StatefulSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Resource:   "statefulsets",
		Singular:   "statefulset",
		ShortNames: []string{"sts"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *appsv1.StatefulSet { return &appsv1.StatefulSet{} },
		NewList:    func() runtime.Object { return &appsv1.StatefulSetList{} },

		Default: setDefaults,
		Prepare: func(ctx context.Context, s *appsv1.StatefulSet) {
			podspec.PruneTemplate(&s.Spec.Template)
			parts.Prepare(ctx, s)
		},
		Validate: check,
		PrepareUpdate: func(ctx context.Context, s, old *appsv1.StatefulSet) {
			podspec.PruneTemplate(&s.Spec.Template)
			parts.PrepareUpdate(ctx, s, old)
		},
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*appsv1.StatefulSet]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		Table: table(),
		Connect: func(env kit.Env) (map[string]rest.Storage, error) {
			return map[string]rest.Storage{"scale": workload.NewScale(env, workload.Scaled[*appsv1.StatefulSet]{
				GroupVersion: appsv1.SchemeGroupVersion,
				Resource:     "statefulsets",
				Wanted:       func(s *appsv1.StatefulSet) **int32 { return &s.Spec.Replicas },
				Current:      func(s *appsv1.StatefulSet) int32 { return s.Status.Replicas },
				Selector:     func(s *appsv1.StatefulSet) (string, error) { return workload.LabelSelector(s.Spec.Selector) },
			})}, nil
		},
	})
}

// defaultHistory is the number of old revisions that are kept if the set does not specify it.
const defaultHistory = int32(10)

func setDefaults(s *appsv1.StatefulSet) {
	podspec.DefaultTemplate(&s.Spec.Template)
	if s.Spec.PodManagementPolicy == "" {
		s.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	defaultStrategy(&s.Spec.UpdateStrategy)
	if s.Spec.PersistentVolumeClaimRetentionPolicy == nil {
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	retain := s.Spec.PersistentVolumeClaimRetentionPolicy
	for _, when := range []*appsv1.PersistentVolumeClaimRetentionPolicyType{&retain.WhenDeleted, &retain.WhenScaled} {
		if *when == "" {
			*when = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}
	if s.Spec.Replicas == nil {
		s.Spec.Replicas = new(int32(1))
	}
	if s.Spec.RevisionHistoryLimit == nil {
		s.Spec.RevisionHistoryLimit = new(defaultHistory)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		claim := &s.Spec.VolumeClaimTemplates[i]
		claim.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
		persistentvolumeclaim.Default(claim)
	}
}

func defaultStrategy(s *appsv1.StatefulSetUpdateStrategy) {
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if s.Type != appsv1.RollingUpdateStatefulSetStrategyType || s.RollingUpdate == nil {
		return
	}
	if s.RollingUpdate.Partition == nil {
		s.RollingUpdate.Partition = new(int32(0))
	}
	if s.RollingUpdate.MaxUnavailable == nil {
		s.RollingUpdate.MaxUnavailable = new(intstr.FromInt32(1))
	}
}

func warn(_ context.Context, s, old *appsv1.StatefulSet) (warnings []string) {
	if old == nil || s.Generation != old.Generation {
		warnings = podspec.WarnTemplate(&s.Spec.Template, field.NewPath("spec", "template"))
	}
	for i := range s.Spec.VolumeClaimTemplates {
		at := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		if old != nil {
			at = at.Child("Spec")
		}
		warnings = append(warnings, persistentvolumeclaim.WarnSpec(&s.Spec.VolumeClaimTemplates[i].Spec, at)...)
	}
	if limit := s.Spec.RevisionHistoryLimit; limit != nil && *limit < 0 {
		warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return warnings
}

func table() *kit.Table[*appsv1.StatefulSet] {
	return &kit.Table[*appsv1.StatefulSet]{
		Columns: append([]column.Definition{
			column.Name(),
			column.Text("Ready", "Number of the pod with ready state"),
			column.Age(),
		}, workload.ContainerColumns()...),
		Row: func(s *appsv1.StatefulSet) ([]any, []metav1.TableRowCondition) {
			names, images := workload.Containers(s.Spec.Template.Spec.Containers)
			ready := fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, workload.Replicas(s.Spec.Replicas))
			return []any{s.Name, ready, column.Since(s.CreationTimestamp), names, images}, nil
		},
	}
}
