package metricsapi

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"podium.dev/podium/internal/apistore"
)

// nodeStore serves NodeMetrics.
type nodeStore struct {
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
} = &nodeStore{}

// New implements rest.Storage.
func (s *nodeStore) New() runtime.Object { return &metricsv1beta1.NodeMetrics{} }

// NewList implements rest.Lister.
func (s *nodeStore) NewList() runtime.Object { return &metricsv1beta1.NodeMetricsList{} }

// Destroy implements rest.Storage; there is nothing to destroy.
func (s *nodeStore) Destroy() {}

// Kind implements rest.KindProvider.
func (s *nodeStore) Kind() string { return "NodeMetrics" }

// NamespaceScoped implements rest.Scoper.
func (s *nodeStore) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider. The metrics server has none either.
func (s *nodeStore) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (s *nodeStore) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	node, err := apistore.Get[*corev1.Node](ctx, s.stores, apistore.Core("nodes"), "", name)
	if err != nil {
		return nil, err
	}
	found, err := s.sampler.ask(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	m, ok := nodeMetrics(node, found[name])
	if !ok {
		return nil, apierrors.NewNotFound(metricsv1beta1.Resource("nodemetrics"), name)
	}
	return &m, nil
}

// List implements rest.Lister. Nodes that do not answer are not listed.
func (s *nodeStore) List(ctx context.Context, options *metainternal.ListOptions) (runtime.Object, error) {
	nodes, err := apistore.List[*corev1.Node](ctx, s.stores, apistore.Core("nodes"), "")
	if err != nil {
		return nil, err
	}
	nodes = selected(nodes, options)
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	found, err := s.sampler.ask(ctx, names)
	if err != nil {
		return nil, err
	}
	list := &metricsv1beta1.NodeMetricsList{Items: []metricsv1beta1.NodeMetrics{}}
	for _, n := range nodes {
		if m, ok := nodeMetrics(n, found[n.Name]); ok {
			list.Items = append(list.Items, m)
		}
	}
	return list, nil
}

// nodeMetrics is what a node uses, if it said so.
func nodeMetrics(node *corev1.Node, w window) (m metricsv1beta1.NodeMetrics, ok bool) {
	u, ok := w.new.node.since(w.old.node)
	if !ok {
		return m, false
	}
	m.Name, m.Labels, m.CreationTimestamp = node.Name, node.Labels, metav1.NewTime(w.new.at)
	m.Timestamp, m.Window.Duration, m.Usage = metav1.NewTime(u.at), rounded(u.window), u.list()
	return m, true
}
