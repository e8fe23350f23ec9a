package sources

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// OnChange calls f for every object that is added or changed.
func OnChange(i cache.SharedIndexInformer, f func(metav1.Object)) {
	add(i, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { with(o, f) },
		UpdateFunc: func(_, o any) { with(o, f) },
	})
}

// OnUpdate calls f for every object that is changed.
func OnUpdate(i cache.SharedIndexInformer, f func(metav1.Object)) {
	add(i, cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, o any) { with(o, f) }})
}

// OnDelete calls f for every object that is deleted, in its last known state.
func OnDelete(i cache.SharedIndexInformer, f func(metav1.Object)) {
	add(i, cache.ResourceEventHandlerFuncs{DeleteFunc: func(o any) { with(o, f) }})
}

// OnAny calls f for every object that is added, changed or deleted.
func OnAny(i cache.SharedIndexInformer, f func(metav1.Object)) {
	OnChange(i, f)
	OnDelete(i, f)
}

// OnDiff calls f for every object that is added (old is nil), changed, or deleted (now is nil).
func OnDiff[T any](i cache.SharedIndexInformer, f func(old, now *T)) {
	add(i, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { f(nil, as[T](o)) },
		UpdateFunc: func(old, o any) { f(as[T](old), as[T](o)) },
		DeleteFunc: func(o any) { f(as[T](o), nil) },
	})
}

// NameOf returns the object's namespace and name, by which the controllers' loops know it.
func NameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func add(i cache.SharedIndexInformer, h cache.ResourceEventHandlerFuncs) {
	// It fails only for an informer that was stopped, and none of these is before it is started.
	_, _ = i.AddEventHandler(h)
}

func with(o any, f func(metav1.Object)) {
	if m, err := meta.Accessor(last(o)); err == nil {
		f(m)
	}
}

func as[T any](o any) *T {
	t, _ := last(o).(*T)
	return t
}

// last returns the object itself, also if its deletion was missed.
func last(o any) any {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return o
}
