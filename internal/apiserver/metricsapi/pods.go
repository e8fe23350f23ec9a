package metricsapi

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/podutil"
)

// podStore serves PodMetrics.
type podStore struct {
	tables
	stores  apistore.Stores
	sampler *sampler
}

var _ interface {
	rest.Getter
	rest.Lister
	rest.Scoper
	rest.KindProvider
	rest.SingularNameProvider
} = &podStore{}

// New implements rest.Storage.
func (s *podStore) New() runtime.Object { return &metricsv1beta1.PodMetrics{} }

// NewList implements rest.Lister.
func (s *podStore) NewList() runtime.Object { return &metricsv1beta1.PodMetricsList{} }

// Destroy implements rest.Storage; there is nothing to destroy.
func (s *podStore) Destroy() {}

// Kind implements rest.KindProvider.
func (s *podStore) Kind() string { return "PodMetrics" }

// NamespaceScoped implements rest.Scoper.
func (s *podStore) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider. The metrics server has none either.
func (s *podStore) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (s *podStore) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	pod, err := apistore.Get[*corev1.Pod](ctx, s.stores, apistore.Core("pods"), namespace, name)
	if err != nil {
		return nil, err
	}
	list, err := s.metrics(ctx, []*corev1.Pod{pod})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, apierrors.NewNotFound(metricsv1beta1.Resource("podmetrics"), namespace+"/"+name)
	}
	return &list[0], nil
}

// List implements rest.Lister. Pods that do not run, and those of nodes that do not answer, are not listed.
func (s *podStore) List(ctx context.Context, options *metainternal.ListOptions) (runtime.Object, error) {
	pods, err := apistore.List[*corev1.Pod](ctx, s.stores, apistore.Core("pods"), request.NamespaceValue(ctx))
	if err != nil {
		return nil, err
	}
	items, err := s.metrics(ctx, selected(pods, options))
	if err != nil {
		return nil, err
	}
	return &metricsv1beta1.PodMetricsList{Items: items}, nil
}

// metrics asks the nodes that the Pods are on.
func (s *podStore) metrics(ctx context.Context, pods []*corev1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	var nodes []string
	for _, p := range pods {
		if node := p.Spec.NodeName; node != "" && runs(p) {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	found, err := s.sampler.ask(ctx, slices.Compact(nodes))
	if err != nil {
		return nil, err
	}
	items := []metricsv1beta1.PodMetrics{}
	for _, p := range pods {
		if w, ok := found[p.Spec.NodeName]; ok && runs(p) {
			if m, ok := podMetrics(p, w); ok {
				items = append(items, m)
			}
		}
	}
	return items, nil
}

// runs reports whether there may be containers of the Pod.
func runs(p *corev1.Pod) bool {
	return !podutil.Ended(p)
}

// podMetrics is what the containers of a Pod use, if the node told of any.
func podMetrics(pod *corev1.Pod, w window) (m metricsv1beta1.PodMetrics, ok bool) {
	key := podName{pod.Namespace, pod.Name}
	m.Name, m.Namespace, m.Labels, m.CreationTimestamp = pod.Name, pod.Namespace, pod.Labels, metav1.NewTime(w.new.at)
	for name, now := range w.new.pods[key] {
		u, ok := now.since(w.old.pods[key][name])
		if !ok {
			continue
		}
		if m.Timestamp.IsZero() || u.at.Before(m.Timestamp.Time) { // all of it is true of the oldest
			m.Timestamp, m.Window.Duration = metav1.NewTime(u.at), rounded(u.window)
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: name, Usage: u.list()})
	}
	place := order(pod)
	slices.SortFunc(m.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return place[a.Name] - place[b.Name] })
	return m, len(m.Containers) > 0
}

// order is the place of each container in the Pod.
func order(pod *corev1.Pod) map[string]int {
	place := map[string]int{}
	for i := range pod.Spec.Containers {
		place[pod.Spec.Containers[i].Name] = len(place)
	}
	for i := range pod.Spec.InitContainers {
		place[pod.Spec.InitContainers[i].Name] = len(place)
	}
	for i := range pod.Spec.EphemeralContainers {
		place[pod.Spec.EphemeralContainers[i].Name] = len(place)
	}
	return place
}
