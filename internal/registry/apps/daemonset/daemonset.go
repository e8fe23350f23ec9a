// Package daemonset serves apps/v1 daemonsets.
package daemonset

import (
	"context"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

var parts = specstatus.Halves[*appsv1.DaemonSet, appsv1.DaemonSetSpec, appsv1.DaemonSetStatus]{
	Spec:       func(d *appsv1.DaemonSet) *appsv1.DaemonSetSpec { return &d.Spec },
	Status:     func(d *appsv1.DaemonSet) *appsv1.DaemonSetStatus { return &d.Status },
	Generation: true,
}

// Kind returns the kind DaemonSet.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*appsv1.DaemonSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Resource:   "daemonsets",
		Singular:   "daemonset",
		ShortNames: []string{"ds"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *appsv1.DaemonSet { return &appsv1.DaemonSet{} },
		NewList:    func() runtime.Object { return &appsv1.DaemonSetList{} },

		Default: setDefaults,
		Prepare: func(ctx context.Context, d *appsv1.DaemonSet) {
			podspec.PruneTemplate(&d.Spec.Template)
			countTemplate(d, max(1, templateGeneration(d)))
			parts.Prepare(ctx, d)
		},
		Validate: check,
		PrepareUpdate: func(ctx context.Context, d, old *appsv1.DaemonSet) {
			podspec.PruneTemplate(&d.Spec.Template)
			generation := templateGeneration(old)
			if !apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
				generation++
			}
			countTemplate(d, generation)
			parts.PrepareUpdate(ctx, d, old)
		},
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*appsv1.DaemonSet]{
			PrepareUpdate: func(ctx context.Context, d, old *appsv1.DaemonSet) {
				countTemplate(d, templateGeneration(old))
				parts.PrepareStatusUpdate(ctx, d, old)
			},
			ValidateUpdate: checkStatusUpdate,
		},
		Table: table(),
	})
}

// defaultHistory is the number of old revisions that are kept if the set does not specify it.
const defaultHistory = int32(10)

func setDefaults(d *appsv1.DaemonSet) {
	podspec.DefaultTemplate(&d.Spec.Template)
	s := &d.Spec.UpdateStrategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		if s.RollingUpdate.MaxUnavailable == nil {
			s.RollingUpdate.MaxUnavailable = new(intstr.FromInt32(1))
		}
		if s.RollingUpdate.MaxSurge == nil {
			s.RollingUpdate.MaxSurge = new(intstr.FromInt32(0))
		}
	}
	if d.Spec.RevisionHistoryLimit == nil {
		d.Spec.RevisionHistoryLimit = new(defaultHistory)
	}
	if _, ok := d.Annotations[appsv1.DeprecatedTemplateGeneration]; !ok {
		countTemplate(d, 0)
	}
}

// templateGeneration returns the count of template changes. It is stored in an annotation, where the beta
// versions of the kind kept it.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func countTemplate(d *appsv1.DaemonSet, generation int64) {
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(generation, 10)
}

func warn(_ context.Context, d, old *appsv1.DaemonSet) []string {
	if old != nil && templateGeneration(d) == templateGeneration(old) {
		return nil
	}
	return podspec.WarnTemplate(&d.Spec.Template, field.NewPath("spec", "template"))
}

func table() *kit.Table[*appsv1.DaemonSet] {
	doc := appsv1.DaemonSetStatus{}.SwaggerDoc()
	columns := append([]column.Definition{
		column.Name(),
		column.Integer("Desired", doc["desiredNumberScheduled"]),
		column.Integer("Current", doc["currentNumberScheduled"]),
		column.Integer("Ready", doc["numberReady"]),
		column.Integer("Up-to-date", doc["updatedNumberScheduled"]),
		column.Integer("Available", doc["numberAvailable"]),
		column.Text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*appsv1.DaemonSet]{
		Columns: append(columns, column.Wide(column.Text("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"]))),
		Row: func(d *appsv1.DaemonSet) ([]any, []metav1.TableRowCondition) {
			s, template := d.Status, d.Spec.Template.Spec
			names, images := workload.Containers(template.Containers)
			return []any{
				d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
				int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), labels.FormatLabels(template.NodeSelector),
				column.Since(d.CreationTimestamp), names, images, metav1.FormatLabelSelector(d.Spec.Selector),
			}, nil
		},
	}
}
