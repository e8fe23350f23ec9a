// Package deployment serves apps/v1 deployments.
package deployment

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

// Kind returns the kind Deployment.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*appsv1.Deployment]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Resource:   "deployments",
		Singular:   "deployment",
		ShortNames: []string{"deploy"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *appsv1.Deployment { return &appsv1.Deployment{} },
		NewList:    func() runtime.Object { return &appsv1.DeploymentList{} },

		Default:        setDefaults,
		Prepare:        prepare,
		Validate:       check,
		PrepareUpdate:  prepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*appsv1.Deployment]{
			PrepareUpdate: func(_ context.Context, d, old *appsv1.Deployment) {
				d.Spec, d.Labels = old.Spec, old.Labels
			},
			ValidateUpdate: checkStatusUpdate,
			ResetFields:    [][]string{{"spec"}, {"metadata", "labels"}},
		},
		Table: table(),
		Connect: func(env kit.Env) (map[string]rest.Storage, error) {
			return map[string]rest.Storage{"scale": workload.NewScale(env, workload.Scaled[*appsv1.Deployment]{
				GroupVersion: appsv1.SchemeGroupVersion,
				Resource:     "deployments",
				Wanted:       func(d *appsv1.Deployment) **int32 { return &d.Spec.Replicas },
				Current:      func(d *appsv1.Deployment) int32 { return d.Status.Replicas },
				Selector:     func(d *appsv1.Deployment) (string, error) { return workload.LabelSelector(d.Spec.Selector) },
			})}, nil
		},
	})
}

// Defaults for the Pods that a rolling update may remove and add, for the number of old revisions to keep, and
// for the time in which a rollout must make progress.
const (
	defaultShare           = "25%"
	defaultHistory         = int32(10)
	defaultProgressSeconds = int32(600)
)

func setDefaults(d *appsv1.Deployment) {
	podspec.DefaultTemplate(&d.Spec.Template)
	if d.Spec.Replicas == nil {
		d.Spec.Replicas = new(int32(1))
	}
	s := &d.Spec.Strategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		if s.RollingUpdate.MaxUnavailable == nil {
			s.RollingUpdate.MaxUnavailable = new(intstr.FromString(defaultShare))
		}
		if s.RollingUpdate.MaxSurge == nil {
			s.RollingUpdate.MaxSurge = new(intstr.FromString(defaultShare))
		}
	}
	if d.Spec.RevisionHistoryLimit == nil {
		d.Spec.RevisionHistoryLimit = new(defaultHistory)
	}
	if d.Spec.ProgressDeadlineSeconds == nil {
		d.Spec.ProgressDeadlineSeconds = new(defaultProgressSeconds)
	}
}

func prepare(_ context.Context, d *appsv1.Deployment) {
	d.Status = appsv1.DeploymentStatus{}
	d.Generation = 1
	podspec.PruneTemplate(&d.Spec.Template)
}

// prepareUpdate also counts changes of annotations, because they are copied to the ReplicaSets.
func prepareUpdate(_ context.Context, d, old *appsv1.Deployment) {
	d.Status = old.Status
	podspec.PruneTemplate(&d.Spec.Template)
	same := apiequality.Semantic.DeepEqual(d.Spec, old.Spec) && apiequality.Semantic.DeepEqual(d.Annotations, old.Annotations)
	if d.Generation = old.Generation; !same {
		d.Generation++
	}
}

func warn(_ context.Context, d, old *appsv1.Deployment) (warnings []string) {
	if old == nil {
		warnings = workload.WarnName(d.Name)
	} else if d.Generation == old.Generation {
		return nil
	}
	return append(warnings, podspec.WarnTemplate(&d.Spec.Template, field.NewPath("spec", "template"))...)
}

func table() *kit.Table[*appsv1.Deployment] {
	doc := appsv1.DeploymentStatus{}.SwaggerDoc()
	columns := append([]column.Definition{
		column.Name(),
		column.Text("Ready", "Number of the pod with ready state"),
		column.Text("Up-to-date", doc["updatedReplicas"]),
		column.Text("Available", doc["availableReplicas"]),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*appsv1.Deployment]{
		Columns: append(columns, column.Wide(column.Text("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"]))),
		Row: func(d *appsv1.Deployment) ([]any, []metav1.TableRowCondition) {
			selector, err := workload.LabelSelector(d.Spec.Selector)
			if err != nil {
				selector = "<invalid>"
			}
			names, images := workload.Containers(d.Spec.Template.Spec.Containers)
			ready := fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, workload.Replicas(d.Spec.Replicas))
			return []any{
				d.Name, ready, int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), column.Since(d.CreationTimestamp),
				names, images, selector,
			}, nil
		},
	}
}
