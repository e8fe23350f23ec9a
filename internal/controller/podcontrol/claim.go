package podcontrol

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Claims sorts the objects of a namespace by their relation to one owner.
type Claims[T metav1.Object] struct {
	Mine    []T // controlled by the owner and selected by it
	Adopt   []T // selected, and without a controller
	Release []T // controlled by the owner but no longer selected
}

// Claim sorts objects by their relation to the owner. Objects that are being deleted, and those for which adoptable is
// false, are not adopted. An empty selector selects nothing.
func Claim[T metav1.Object](owner metav1.Object, selector labels.Selector, objects []T, adoptable func(T) bool) Claims[T] {
	var c Claims[T]
	for _, o := range objects {
		ref := metav1.GetControllerOfNoCopy(o)
		selected := !selector.Empty() && selector.Matches(labels.Set(o.GetLabels()))
		switch {
		case ref != nil && ref.UID == owner.GetUID() && selected:
			c.Mine = append(c.Mine, o)
		case ref != nil && ref.UID == owner.GetUID():
			c.Release = append(c.Release, o)
		case ref == nil && selected && o.GetDeletionTimestamp() == nil && adoptable(o):
			c.Adopt = append(c.Adopt, o)
		}
	}
	return c
}

// Selects reports whether the selector selects an object with these labels. One that is empty or not valid selects nothing.
func Selects(selector *metav1.LabelSelector, with map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(with))
}

// Keeper adopts and releases objects of one kind on behalf of an owner.
type Keeper[T metav1.Object] struct {
	Owner metav1.Object
	Kind  schema.GroupVersionKind // of the owner
	// Fresh reads the owner from the API server. An owner that a stale cache still shows must not adopt anything: the
	// garbage collector would delete what it adopted.
	Fresh func(ctx context.Context) (metav1.Object, error)
	// Patch merges body into the object.
	Patch func(ctx context.Context, object T, how types.PatchType, body []byte) error
	// Finalizer is added to what is adopted and removed from what is released; "" adds none.
	Finalizer string
}

// Keep carries the claims out and returns the objects that the owner controls. An owner that is being deleted neither
// adopts nor releases. The error may be a conflict: the caller's cache is behind, and the call is repeated later.
func (k Keeper[T]) Keep(ctx context.Context, c Claims[T]) ([]T, error) {
	if k.Owner.GetDeletionTimestamp() != nil {
		return c.Mine, nil
	}
	mine := c.Mine
	if len(c.Adopt) > 0 {
		fresh, err := k.Fresh(ctx)
		switch {
		case err != nil && !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("read %s %s/%s before it adopts: %w", k.Kind.Kind, k.Owner.GetNamespace(), k.Owner.GetName(), err)
		case err != nil || fresh.GetUID() != k.Owner.GetUID() || fresh.GetDeletionTimestamp() != nil:
			return mine, nil
		}
	}
	for _, o := range c.Adopt {
		owners := append(slices.Clone(o.GetOwnerReferences()), *metav1.NewControllerRef(k.Owner, k.Kind))
		finalizers := o.GetFinalizers()
		if k.Finalizer != "" && !slices.Contains(finalizers, k.Finalizer) {
			finalizers = append(slices.Clone(finalizers), k.Finalizer)
		}
		gone, err := k.patch(ctx, o, owners, finalizers)
		if err != nil {
			return nil, fmt.Errorf("adopt %s/%s: %w", o.GetNamespace(), o.GetName(), err)
		}
		if !gone {
			mine = append(mine, o)
		}
	}
	for _, o := range c.Release {
		owners := slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == k.Owner.GetUID() })
		finalizers := slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return k.Finalizer != "" && f == k.Finalizer })
		if _, err := k.patch(ctx, o, owners, finalizers); err != nil {
			return nil, fmt.Errorf("release %s/%s: %w", o.GetNamespace(), o.GetName(), err)
		}
	}
	return mine, nil
}

// patch replaces the object's owners and finalizers, provided that it is as the cache shows it. It reports whether the
// object is gone.
func (k Keeper[T]) patch(ctx context.Context, o T, owners []metav1.OwnerReference, finalizers []string) (gone bool, err error) {
	meta := map[string]any{"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion(), "ownerReferences": owners}
	if k.Finalizer != "" {
		meta["finalizers"] = finalizers
	}
	body, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return false, err
	}
	err = k.Patch(ctx, o, types.MergePatchType, body)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
