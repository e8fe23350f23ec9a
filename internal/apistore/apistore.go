// Package apistore lets the API server's own parts (authentication, authorization, admission) read and follow stored
// objects without a request to the server that they are part of.
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

// Stores returns the store of a kind, or nil if the kind is not served.
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

// Context returns a context for the store of a kind, for the objects of a namespace or, with "", for all. It ends with
// ctx but has no values of ctx, which may belong to a request for another kind.
func Context(ctx context.Context, namespace string) context.Context {
	return request.WithNamespace(bare{ctx}, namespace)
}

// bare is a context without its values.
type bare struct{ context.Context }

func (bare) Value(any) any { return nil }

// Get returns an object from the watch cache, whose state may be a moment old, or from etcd if there is no cache. The
// caller may change the object.
func Get[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace, name string) (T, error) {
	return get[T](ctx, s, r, namespace, name, "0")
}

// GetCurrent returns an object from etcd.
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
		return none, fmt.Errorf("the store of %s returned a %T", r, o)
	}
	return t, nil
}

// List returns the objects of a namespace (of all with "") from the watch cache. They must not be changed.
func List[T runtime.Object](ctx context.Context, s Stores, r schema.GroupResource, namespace string) ([]T, error) {
	return list[T](ctx, s, r, namespace, "0")
}

// ListCurrent returns the objects of a namespace from etcd. They must not be changed.
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
			return fmt.Errorf("the store of %s returned a %T", r, o)
		}
		all = append(all, t)
		return nil
	})
	return all, err
}

// Sink receives the stored objects of a kind, one call at a time. It may keep the objects but must not change them.
type Sink[T runtime.Object] struct {
	// Replace receives all objects: first of all, and again if changes were missed.
	Replace func(all []T)
	// Set receives an object that is new or has changed.
	Set func(T)
	// Remove receives the last known state of an object that has been deleted.
	Remove func(T)
}

// Follow passes the objects of a kind and their changes to a sink until the context ends. The channel is closed after
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

// accumulator passes the objects of a reflector to a sink.
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

// listerWatcher adapts a store to a reflector.
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
	// An object that several watches select is wrapped so that it is encoded only once.
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
