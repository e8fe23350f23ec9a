package metricsapi

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"podium.dev/podium/internal/registry/kit/column"
)

// selected are the objects that the options' selectors choose.
func selected[T metav1.Object](objects []T, options *metainternal.ListOptions) []T {
	label, field := labels.Everything(), fields.Everything()
	if options != nil && options.LabelSelector != nil {
		label = options.LabelSelector
	}
	if options != nil && options.FieldSelector != nil {
		field = options.FieldSelector
	}
	if label.Empty() && field.Empty() {
		return objects
	}
	var out []T
	for _, o := range objects {
		names := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
		if label.Matches(labels.Set(o.GetLabels())) && field.Matches(names) {
			out = append(out, o)
		}
	}
	return out
}

// tables prints both kinds: a column a resource, and the window.
type tables struct{}

// ConvertToTable implements rest.TableConvertor.
func (tables) ConvertToTable(_ context.Context, object runtime.Object, options runtime.Object) (*metav1.Table, error) {
	t := &metav1.Table{}
	switch o := object.(type) {
	case *metricsv1beta1.NodeMetrics:
		addRow(t, o, o.Name, o.Usage, o.Window)
	case *metricsv1beta1.NodeMetricsList:
		for i := range o.Items {
			addRow(t, &o.Items[i], o.Items[i].Name, o.Items[i].Usage, o.Items[i].Window)
		}
	case *metricsv1beta1.PodMetrics:
		addRow(t, o, o.Name, sum(o), o.Window)
	case *metricsv1beta1.PodMetricsList:
		for i := range o.Items {
			addRow(t, &o.Items[i], o.Items[i].Name, sum(&o.Items[i]), o.Items[i].Window)
		}
	default:
		return nil, fmt.Errorf("print %T as a table: it is of no kind that this store has", object)
	}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		t.ColumnDefinitions = []metav1.TableColumnDefinition{
			column.Name(),
			{Name: "cpu", Type: "string", Format: "quantity"},
			{Name: "memory", Type: "string", Format: "quantity"},
			{Name: "Window", Type: "string", Format: "duration"},
		}
	}
	return t, nil
}

func addRow(t *metav1.Table, o runtime.Object, name string, use corev1.ResourceList, window metav1.Duration) {
	t.Rows = append(t.Rows, metav1.TableRow{
		Cells:  []any{name, use.Cpu().String(), use.Memory().String(), window.Duration.String()},
		Object: runtime.RawExtension{Object: o},
	})
}

// sum is what all containers of a Pod use.
func sum(m *metricsv1beta1.PodMetrics) corev1.ResourceList {
	all := corev1.ResourceList{}
	for i := range m.Containers {
		for _, name := range slices.Sorted(maps.Keys(m.Containers[i].Usage)) {
			q := all[name]
			q.Add(m.Containers[i].Usage[name])
			all[name] = q
		}
	}
	return all
}
