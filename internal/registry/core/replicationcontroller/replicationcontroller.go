// Package replicationcontroller serves core/v1 replicationcontrollers.
package replicationcontroller

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
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

var parts = specstatus.Halves[*corev1.ReplicationController, corev1.ReplicationControllerSpec, corev1.ReplicationControllerStatus]{
	Spec:       func(r *corev1.ReplicationController) *corev1.ReplicationControllerSpec { return &r.Spec },
	Status:     func(r *corev1.ReplicationController) *corev1.ReplicationControllerStatus { return &r.Status },
	Generation: true,
}

// Kind returns the kind ReplicationController.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.ReplicationController]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Resource:   "replicationcontrollers",
		StorePath:  "controllers",
		Singular:   "replicationcontroller",
		ShortNames: []string{"rc"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *corev1.ReplicationController { return &corev1.ReplicationController{} },
		NewList:    func() runtime.Object { return &corev1.ReplicationControllerList{} },

		Default: setDefaults,
		Prepare: func(ctx context.Context, r *corev1.ReplicationController) {
			prune(r)
			parts.Prepare(ctx, r)
		},
		Validate: check,
		PrepareUpdate: func(ctx context.Context, r, old *corev1.ReplicationController) {
			prune(r)
			parts.PrepareUpdate(ctx, r, old)
		},
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*corev1.ReplicationController]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		OrphanByDefault: true,
		Selectable: func(r *corev1.ReplicationController) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		},
		Table: table(),
		Connect: func(env kit.Env) (map[string]rest.Storage, error) {
			return map[string]rest.Storage{"scale": workload.NewScale(env, workload.Scaled[*corev1.ReplicationController]{
				GroupVersion: corev1.SchemeGroupVersion,
				Resource:     "replicationcontrollers",
				Wanted:       func(r *corev1.ReplicationController) **int32 { return &r.Spec.Replicas },
				Current:      func(r *corev1.ReplicationController) int32 { return r.Status.Replicas },
				Selector: func(r *corev1.ReplicationController) (string, error) {
					return labels.SelectorFromSet(r.Spec.Selector).String(), nil
				},
			})}, nil
		},
	})
}

// setDefaults copies the template's labels to an empty selector and to the controller's own labels if those are
// empty.
func setDefaults(r *corev1.ReplicationController) {
	if t := r.Spec.Template; t != nil {
		if t.Labels != nil && len(r.Spec.Selector) == 0 {
			r.Spec.Selector = t.Labels
		}
		if t.Labels != nil && len(r.Labels) == 0 {
			r.Labels = t.Labels
		}
		podspec.DefaultTemplate(t)
	}
	if r.Spec.Replicas == nil {
		r.Spec.Replicas = new(int32(1))
	}
}

func prune(r *corev1.ReplicationController) {
	if r.Spec.Template != nil {
		podspec.PruneTemplate(r.Spec.Template)
	}
}

func check(_ context.Context, r *corev1.ReplicationController) field.ErrorList {
	return validate.InOrder(
		validate.Meta(&r.ObjectMeta, true, checkPrefix),
		checkName(r.Name, field.NewPath("metadata", "name")),
		checkSpec(&r.Spec, nil, field.NewPath("spec")),
	)
}

// checkPrefix requires a generateName that can start a DNS name. checkName checks the whole name.
func checkPrefix(name string, prefix bool) []string {
	if !prefix {
		return nil
	}
	return apivalidation.NameIsDNSSubdomain(name, true)
}

func checkName(name string, path *field.Path) (faults field.ErrorList) {
	if name == "" {
		return nil
	}
	for _, fault := range content.IsDNS1123Subdomain(name) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	return validate.Declared(faults...)
}

func checkUpdate(_ context.Context, r, old *corev1.ReplicationController) field.ErrorList {
	return validate.InOrder(
		validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta),
		checkSpec(&r.Spec, old.Spec.Template, field.NewPath("spec")),
	)
}

// checkSpec validates a spec. old is the stored template, or nil.
func checkSpec(s *corev1.ReplicationControllerSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	selector := labels.Set(s.Selector).AsSelector()
	faults := validate.Declared(workload.NonNegative(path, workload.Optional("replicas", s.Replicas), workload.Number("minReadySeconds", s.MinReadySeconds))...)
	if selector.Empty() {
		faults = append(faults, field.Required(path.Child("selector"), ""))
	}
	at := path.Child("template")
	if s.Template == nil {
		return append(faults, field.Required(at, ""))
	}
	faults = append(faults, workload.Matches(selector, s.Template, at)...)
	faults = append(faults, podspec.CheckTemplate(s.Template, old, at)...)
	return append(faults, workload.RunsForEver(s.Template, "ReplicationController", at)...)
}

func checkStatusUpdate(_ context.Context, r, old *corev1.ReplicationController) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	labeled := workload.Number("fullyLabeledReplicas", s.FullyLabeledReplicas)
	ready := workload.Number("readyReplicas", s.ReadyReplicas)
	available := workload.Number("availableReplicas", s.AvailableReplicas)
	faults := validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, workload.NonNegative(path,
		workload.Number("replicas", s.Replicas), labeled, ready, available,
		workload.Number("observedGeneration", s.ObservedGeneration),
	)...)
	faults = append(faults, workload.AtMost(s.Replicas, "status.replicas", path, labeled, ready, available)...)
	return append(faults, workload.AtMost(s.ReadyReplicas, "readyReplicas", path, available)...)
}

func warn(_ context.Context, r, old *corev1.ReplicationController) (warnings []string) {
	if old == nil {
		warnings = workload.WarnName(r.Name)
	} else if r.Generation == old.Generation {
		return nil
	}
	if r.Spec.Template == nil {
		return warnings
	}
	return append(warnings, podspec.WarnTemplate(r.Spec.Template, field.NewPath("spec", "template"))...)
}

func table() *kit.Table[*corev1.ReplicationController] {
	wanted, there := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	columns := append([]column.Definition{
		column.Name(),
		column.Integer("Desired", wanted["replicas"]),
		column.Integer("Current", there["replicas"]),
		column.Integer("Ready", there["readyReplicas"]),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*corev1.ReplicationController]{
		Columns: append(columns, column.Wide(column.Text("Selector", wanted["selector"]))),
		Row: func(r *corev1.ReplicationController) ([]any, []metav1.TableRowCondition) {
			var containers []corev1.Container
			if r.Spec.Template != nil {
				containers = r.Spec.Template.Spec.Containers
			}
			names, images := workload.Containers(containers)
			return []any{
				r.Name, workload.Replicas(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
				column.Since(r.CreationTimestamp), names, images, labels.FormatLabels(r.Spec.Selector),
			}, nil
		},
	}
}
