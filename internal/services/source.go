package services

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// notOthers selects what other proxies do not serve (the labels' documentation).
const notOthers = "!service.kubernetes.io/service-proxy-name,!" + corev1.IsHeadlessService

// feed is the end of a watch. It keeps no objects: what matters of them goes on to the state.
type feed struct {
	// put is called for an object that is new or changed, gone for one that was deleted.
	put, gone func(metav1.Object)
	// all is called with each whole list, in place of put.
	all func([]metav1.Object)
}

var _ cache.TransformingStore = &feed{}

// Add is called by the watch.
func (f *feed) Add(o any) error { return f.put1(o, f.put) }

// Update is called by the watch.
func (f *feed) Update(o any) error { return f.put1(o, f.put) }

// Delete is called by the watch.
func (f *feed) Delete(o any) error { return f.put1(o, f.gone) }

// Resync is not needed.
func (f *feed) Resync() error { return nil }

// Replace is called by the watch with a whole list.
func (f *feed) Replace(list []any, _ string) error {
	all := make([]metav1.Object, 0, len(list))
	for _, o := range list {
		if err := f.put1(o, func(m metav1.Object) { all = append(all, m) }); err != nil {
			return err
		}
	}
	f.all(all)
	return nil
}

// Transformer drops what nobody reads, while a long list is being received.
func (f *feed) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		if m, err := meta.Accessor(o); err == nil {
			m.SetManagedFields(nil)
			m.SetAnnotations(nil)
		}
		return o, nil
	}
}

func (f *feed) put1(o any, to func(metav1.Object)) error {
	m, err := meta.Accessor(o)
	if err != nil {
		return fmt.Errorf("read an object of a watch: %w", err)
	}
	to(m)
	return nil
}

// typed are the calls of a client for one kind.
type typed[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// follow runs the watch of a kind until the context ends.
func follow[L runtime.Object](ctx context.Context, client any, kind typed[L], example runtime.Object, labels, field string, to *feed) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector, o.FieldSelector = labels, field
			return kind.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector, o.FieldSelector = labels, field
			return kind.Watch(ctx, o)
		},
	}
	log := klog.FromContext(ctx)
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, client), example, to, cache.ReflectorOptions{Logger: &log}).RunWithContext(ctx)
}

func (p *Proxy) followServices(ctx context.Context) {
	follow(ctx, p.c.Client, p.c.Client.CoreV1().Services(metav1.NamespaceAll), &corev1.Service{}, notOthers, "", &feed{
		put:  func(o metav1.Object) { p.putService(o.(*corev1.Service)) },
		gone: func(o metav1.Object) { p.dropService(nameOf(o)) },
		all:  p.setServices,
	})
}

func (p *Proxy) followSlices(ctx context.Context) {
	follow(ctx, p.c.Client, p.c.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll), &discoveryv1.EndpointSlice{}, notOthers, "", &feed{
		put:  func(o metav1.Object) { p.putSlice(o.(*discoveryv1.EndpointSlice), true) },
		gone: func(o metav1.Object) { p.putSlice(o.(*discoveryv1.EndpointSlice), false) },
		all:  p.setSlices,
	})
}

func (p *Proxy) followNode(ctx context.Context) {
	zone := func(o metav1.Object) { p.setZone(o.GetLabels()[corev1.LabelTopologyZone]) }
	follow(ctx, p.c.Client, p.c.Client.CoreV1().Nodes(), &corev1.Node{}, "", fields.OneTermEqualSelector(metav1.ObjectNameField, p.c.Node).String(), &feed{
		put:  zone,
		gone: func(metav1.Object) { p.setZone("") },
		all: func(nodes []metav1.Object) {
			for _, n := range nodes {
				zone(n)
			}
		},
	})
}
