// Package apistore lets the API server's own parts (authentication, authorization, admission) read and follow
// what is stored, without a request to the server that they are part of.
package apistore

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/client-go/tools/cache"
)

// Stores finds the store of a kind, or answers nil when the kind is not served.
type Stores func(schema.GroupResource) *genericregistry.Store

// Core names a resource of the core group.
func Core(resource string) schema.GroupResource { return schema.GroupResource{Resource: resource} }

func (s Stores) find(r schema.GroupResource) (*genericregistry.Store, error) {
	store := s(r)
	if store == nil {
		return nil, fmt.Errorf("%s is not served", r)
	}
	return store, nil
}

// Context is one for the store of a kind: for objects in a namespace, or with "" for all or for kinds that
// have none. It ends with ctx, but knows nothing of the request that ctx may belong to, which is for another
// kind.
func Context(ctx context.Context, namespace string) context.Context {
	return request.WithNamespace(bare{ctx}, namespace)
}

// bare is a context without its values.
type bare struct{ context.Context }

func (bare) Value(any) any { return nil }

// Get answers with an object as the watch cache knows it, which may be a moment old, or as etcd does when
// there is no cache. The object may be changed by the caller.
func Get[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace, name string) (T, error) {
	return get[T](ctx, s, r, namespace, name, "0")
}

// GetCurrent answers with an object as it is in etcd now.
func GetCurrent[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace, name string) (T, error) {
	return get[T](ctx, s, r, namespace, name, "")
}

func get[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace, name, version string) (none T, err error) {
	store, err := s.find(r)
	if err != nil {
		return none, err
	}
	if faults := path.IsValidPathSegmentName(name); len(faults) > 0 {
		return none, fmt.Errorf("invalid resource name %q: %v", name, faults) // the words of a client
	}
	o, err := store.Get(Context(ctx, namespace), name, &metav1.GetOptions{ResourceVersion: version})
	if err != nil {
		return none, err
	}
	t, ok := o.DeepCopyObject().(T) // the cache gives out its own maps and slices
	if !ok {
		return none, fmt.Errorf("the store of %s answered with a %T", r, o)
	}
	return t, nil
}

// List answers with the objects of a namespace (all when "") as the watch cache knows them. They must not be
// changed.
func List[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace string) ([]T, error) {
	return list[T](ctx, s, r, namespace, "0")
}

// ListCurrent answers with the objects of a namespace as they are now. They must not be changed.
func ListCurrent[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace string) ([]T, error) {
	return list[T](ctx, s, r, namespace, "")
}

func list[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace, version string) ([]T, error) {
	store, err := s.find(r)
	if err != nil {
		return nil, err
	}
	found, err := store.List(Context(ctx, namespace), &metainternal.ListOptions{ResourceVersion: version})
	if err != nil {
		return nil, err
	}
	var all []T
	err = meta.EachListItem(found, func(o runtime.Object) error {
		t, ok := o.(T)
		if !ok {
			return fmt.Errorf("the store of %s answered with a %T", r, o)
		}
		all = append(all, t)
		return nil
	})
	return all, err
}

// Sink is told what is stored of a kind, one call at a time. It may keep what it is given, but not change it.
type Sink[T runtime.Object] struct {
	// Replace is told all there is: first of all, and again when changes were missed.
	Replace func(all []T)
	// Set is told of an object that is new or changed.
	Set func(T)
	// Remove is told of an object that is gone, in its last state known.
	Remove func(T)
}

// Follow keeps a sink in step with the store of a kind until the context ends. The channel is closed after
// the first Replace.
func Follow[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, sink Sink[T]) (synced <-chan struct{}, err error) {
	store, err := s.find(r)
	if err != nil {
		return nil, err
	}
	var example T
	a := &accumulator[T]{sink: sink, synced: make(chan struct{})}
	reflector := cache.NewReflectorWithOptions(listerWatcher{store}, example, a, cache.ReflectorOptions{Name: "local/" + r.String()})
	go reflector.RunWithContext(ctx)
	return a.synced, nil
}

// accumulator hands what a reflector finds to a sink.
type accumulator[T runtime.Object] struct {
	sink   Sink[T]
	once   sync.Once
	synced chan struct{}
}

func (a *accumulator[T]) Add(o any) error    { a.sink.Set(o.(T)); return nil }
func (a *accumulator[T]) Update(o any) error { a.sink.Set(o.(T)); return nil }
func (a *accumulator[T]) Delete(o any) error { a.sink.Remove(o.(T)); return nil }
func (a *accumulator[T]) Resync() error      { return nil }

func (a *accumulator[T]) Replace(objects []any, _ string) error {
	all := make([]T, len(objects))
	for i, o := range objects {
		all[i] = o.(T)
	}
	a.sink.Replace(all)
	a.once.Do(func() { close(a.synced) })
	return nil
}

// listerWatcher is a store as a reflector wants it.
type listerWatcher struct{ store *genericregistry.Store }

var _ cache.ListerWatcherWithContext = listerWatcher{}

func (l listerWatcher) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	o, err := internalOptions(options)
	if err != nil {
		return nil, err
	}
	return l.store.List(Context(ctx, ""), o)
}

func (l listerWatcher) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	o, err := internalOptions(options)
	if err != nil {
		return nil, err
	}
	w, err := l.store.Watch(Context(ctx, ""), o)
	if err != nil {
		return nil, err
	}
	// What is watched by several is wrapped, so that it is encoded only once.
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if c, ok := e.Object.(runtime.CacheableObject); ok {
			e.Object = c.GetObject()
		}
		return e, true
	}), nil
}

func (l listerWatcher) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

func (l listerWatcher) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

func internalOptions(options metav1.ListOptions) (*metainternal.ListOptions, error) {
	o := &metainternal.ListOptions{}
	return o, metainternal.Convert_v1_ListOptions_To_internalversion_ListOptions(&options, o, nil)
}
