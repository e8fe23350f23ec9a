// Package podtemplate serves core/v1 podtemplates.
package podtemplate

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

// Kind returns the kind PodTemplate.
func Kind() kit.Kind {
	path := field.NewPath("template")
	return kit.Define(kit.Definition[*corev1.PodTemplate]{
		GVK:        corev1.SchemeGroupVersion.WithKind("PodTemplate"),
		Resource:   "podtemplates",
		Singular:   "podtemplate",
		Namespaced: true,
		New:        func() *corev1.PodTemplate { return &corev1.PodTemplate{} },
		NewList:    func() runtime.Object { return &corev1.PodTemplateList{} },

		ReturnDeleted: true,
		Default:       func(t *corev1.PodTemplate) { podspec.DefaultTemplate(&t.Template) },
		Prepare: func(_ context.Context, t *corev1.PodTemplate) {
			t.Generation = 1
			podspec.PruneTemplate(&t.Template)
		},
		Validate: func(_ context.Context, t *corev1.PodTemplate) field.ErrorList {
			return append(validate.Meta(&t.ObjectMeta, true, apivalidation.NameIsDNSSubdomain), podspec.CheckTemplate(&t.Template, nil, path)...)
		},
		PrepareUpdate: func(_ context.Context, t, old *corev1.PodTemplate) {
			podspec.PruneTemplate(&t.Template)
			specstatus.Count(t, old, t.Template, old.Template)
		},
		ValidateUpdate: func(_ context.Context, t, old *corev1.PodTemplate) field.ErrorList {
			return append(validate.MetaUpdate(&t.ObjectMeta, &old.ObjectMeta), podspec.CheckTemplate(&t.Template, &old.Template, path)...)
		},
		Warn: func(_ context.Context, t, old *corev1.PodTemplate) []string {
			if old != nil && t.Generation == old.Generation {
				return nil
			}
			return podspec.WarnTemplate(&t.Template, path)
		},
		Table: &kit.Table[*corev1.PodTemplate]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Containers", "Names of each container in the template."),
				column.Text("Images", "Images referenced by each container in the template."),
				column.Text("Pod Labels", "The labels for the pod template."),
			},
			Row: func(t *corev1.PodTemplate) ([]any, []metav1.TableRowCondition) {
				names, images := workload.Containers(t.Template.Spec.Containers)
				return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}, nil
			},
		},
	})
}
