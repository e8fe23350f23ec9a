package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	customv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/clock"
)

// metrics reads the metrics APIs.
type metrics interface {
	// resource returns what Pods use of a resource, or one container of them if it is named.
	resource(ctx context.Context, namespace string, name corev1.ResourceName, container string, pods labels.Selector) (samples, error)
	// ofPods returns a custom metric of Pods.
	ofPods(namespace, name string, pods, metric labels.Selector) (samples, error)
	// ofObject returns a custom metric of an object.
	ofObject(namespace, name string, of autoscalingv2.CrossVersionObjectReference, metric labels.Selector) (int64, error)
	// external returns the values of an external metric.
	external(namespace, name string, metric labels.Selector) ([]int64, error)
}

// read reads one metric of an autoscaler.
func read(ctx context.Context, from metrics, namespace string, m *autoscalingv2.MetricSpec, pods labels.Selector) (r reading) {
	switch {
	case m.Resource != nil && m.Type == autoscalingv2.ResourceMetricSourceType:
		r.samples, r.err = from.resource(ctx, namespace, m.Resource.Name, "", pods)
	case m.ContainerResource != nil && m.Type == autoscalingv2.ContainerResourceMetricSourceType:
		r.samples, r.err = from.resource(ctx, namespace, m.ContainerResource.Name, m.ContainerResource.Container, pods)
	case m.Pods != nil && m.Type == autoscalingv2.PodsMetricSourceType:
		var selector labels.Selector
		if selector, r.err = metav1.LabelSelectorAsSelector(m.Pods.Metric.Selector); r.err == nil {
			r.samples, r.err = from.ofPods(namespace, m.Pods.Metric.Name, pods, selector)
		}
	case m.Object != nil && m.Type == autoscalingv2.ObjectMetricSourceType:
		r.values, r.err = readObject(from, namespace, m.Object)
	case m.External != nil && m.Type == autoscalingv2.ExternalMetricSourceType:
		r.values, r.err = readExternal(from, namespace, m.External)
	}
	return r
}

func readObject(from metrics, namespace string, m *autoscalingv2.ObjectMetricSource) ([]int64, error) {
	selector, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
	if err != nil {
		return nil, err
	}
	of := m.DescribedObject
	value, err := from.ofObject(namespace, m.Metric.Name, of, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s on %s %s/%s: %w", m.Metric.Name, of.Kind, namespace, of.Name, err)
	}
	return []int64{value}, nil
}

func readExternal(from metrics, namespace string, m *autoscalingv2.ExternalMetricSource) ([]int64, error) {
	selector, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
	if err != nil {
		return nil, err
	}
	values, err := from.external(namespace, m.Metric.Name, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to get external metric %s/%s/%+v: %w", namespace, m.Metric.Name, m.Metric.Selector, err)
	}
	return values, nil
}

// apiMetrics reads metrics.k8s.io, which is built in, and custom.metrics.k8s.io and external.metrics.k8s.io, which
// clusters add.
type apiMetrics struct {
	*Clients
	clock clock.PassiveClock

	mu    sync.Mutex
	asked time.Time // when discovery was last asked for the version of the custom metrics
}

func newAPIMetrics(c *Clients, clk clock.PassiveClock) *apiMetrics {
	return &apiMetrics{Clients: c, clock: clk}
}

func (m *apiMetrics) resource(ctx context.Context, namespace string, name corev1.ResourceName, container string, pods labels.Selector) (samples, error) {
	list, err := m.resources.PodMetricses(namespace).List(ctx, metav1.ListOptions{LabelSelector: pods.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := samples{}
	for i := range list.Items {
		if s, ok := sampleOf(&list.Items[i], name, container); ok {
			out[list.Items[i].Name] = s
		}
	}
	return out, nil
}

// sampleOf returns what a Pod, or one container of it, uses of a resource. There is no sample of a Pod if one of its
// containers is missing in it.
func sampleOf(m *metricsv1beta1.PodMetrics, name corev1.ResourceName, container string) (sample, bool) {
	s, found := sample{at: m.Timestamp.Time, window: m.Window.Duration}, false
	for _, c := range m.Containers {
		if container != "" && c.Name != container {
			continue
		}
		used, ok := c.Usage[name]
		if !ok {
			return sample{}, false
		}
		s.value, found = s.value+used.MilliValue(), true
		if container != "" {
			break
		}
	}
	return s, found
}

// customVersion forgets which version of the custom metrics is served if that was asked a while ago.
func (m *apiMetrics) customVersion() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clock.Since(m.asked) >= period {
		m.asked = m.clock.Now()
		m.versions.Invalidate()
	}
}

// customWindow is the time that a custom metric is of if it does not say so.
const customWindow = time.Minute

func (m *apiMetrics) ofPods(namespace, name string, pods, metric labels.Selector) (samples, error) {
	m.customVersion()
	list, err := m.custom.NamespacedMetrics(namespace).GetForObjects(schema.GroupKind{Kind: "Pod"}, pods, name, metric)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	out := samples{}
	for i := range list.Items {
		one := &list.Items[i]
		s := sample{value: one.Value.MilliValue(), at: one.Timestamp.Time, window: customWindow}
		if n := one.WindowSeconds; n != nil {
			s.window = time.Duration(*n) * time.Second
		}
		out[one.DescribedObject.Name] = s
	}
	return out, nil
}

func (m *apiMetrics) ofObject(namespace, name string, of autoscalingv2.CrossVersionObjectReference, metric labels.Selector) (int64, error) {
	m.customVersion()
	kind := schema.FromAPIVersionAndKind(of.APIVersion, of.Kind).GroupKind()
	var value *customv1beta2.MetricValue
	var err error
	if kind == (schema.GroupKind{Kind: "Namespace"}) {
		// An autoscaler sees no namespace but its own, whatever name is given.
		value, err = m.custom.RootScopedMetrics().GetForObject(kind, namespace, name, metric)
	} else {
		value, err = m.custom.NamespacedMetrics(namespace).GetForObject(kind, of.Name, name, metric)
	}
	if err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	return value.Value.MilliValue(), nil
}

func (m *apiMetrics) external(namespace, name string, metric labels.Selector) ([]int64, error) {
	list, err := m.externals.NamespacedMetrics(namespace).List(name, metric)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from external metrics API")
	}
	values := make([]int64, len(list.Items))
	for i := range list.Items {
		values[i] = list.Items[i].Value.MilliValue()
	}
	return values, nil
}
