package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// errNamespacedOwner marks a reference that can never be valid: a cluster-scoped object cannot have a
// namespaced owner.
var errNamespacedOwner = errors.New("a cluster-scoped object refers to a namespaced owner")

// sync looks at one object.
func (c *Collector) sync(ctx context.Context, uid types.UID) (time.Duration, error) {
	n, dependents := c.graph.get(uid)
	if n == nil {
		return 0, nil
	}
	err := c.attend(ctx, n, dependents)
	switch {
	case err == nil || apierrors.IsNotFound(err) || errors.Is(err, errNamespacedOwner):
		return 0, nil // the graph will see the deletion soon
	case meta.IsNoMatchError(err):
		c.discovering.AddAfter(soon, discoverSoon)
		return 0, err
	}
	return 0, fmt.Errorf("collect %s: %w", n, err)
}

func (c *Collector) attend(ctx context.Context, n *node, dependents []*node) error {
	switch {
	case n.deleting && n.orphan:
		return c.orphan(ctx, n, dependents)
	case n.deletingDependents():
		return c.deleteDependents(ctx, n, dependents)
	case n.deleting || len(n.owners) == 0:
		return nil
	}
	return c.collect(ctx, n, dependents)
}

// orphan removes the owner reference from all dependents and then the owner's finalizer.
func (c *Collector) orphan(ctx context.Context, n *node, dependents []*node) error {
	for _, d := range dependents {
		live, err := c.read(ctx, d)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.dropOwners(ctx, d, live, []types.UID{n.uid}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return c.removeFinalizer(ctx, n, metav1.FinalizerOrphanDependents)
}

// deleteDependents queues the dependents that block the object's deletion. If there are none, it removes the
// finalizer.
func (c *Collector) deleteDependents(ctx context.Context, n *node, dependents []*node) error {
	blocking := slices.DeleteFunc(dependents, func(d *node) bool { return !d.blocks(n.uid) })
	if len(blocking) == 0 {
		return c.removeFinalizer(ctx, n, metav1.FinalizerDeleteDependents)
	}
	for _, d := range blocking {
		if !d.deletingDependents() {
			c.objects.Add(d.uid)
		}
	}
	return nil
}

// collect deletes the object unless one of its owners exists and stays.
func (c *Collector) collect(ctx context.Context, n *node, dependents []*node) error {
	live, err := c.read(ctx, n)
	if err != nil {
		return err
	}
	if live.DeletionTimestamp != nil || len(live.OwnerReferences) == 0 {
		return nil
	}
	solid, dangling, waiting, err := c.classify(ctx, n, live.OwnerReferences)
	if err != nil {
		return err
	}
	switch {
	case len(solid) > 0 && len(dangling)+len(waiting) > 0:
		// An owner that waits for its dependents would never end if this object kept its reference.
		return c.dropOwners(ctx, n, live, append(dangling, waiting...))
	case len(solid) > 0:
		return nil
	case len(waiting) > 0 && len(dependents) > 0:
		if slices.ContainsFunc(dependents, (*node).deletingDependents) {
			// A cycle of foreground deletions would wait for itself.
			return c.unblock(ctx, n, live)
		}
		return c.delete(ctx, n, live, metav1.DeletePropagationForeground)
	}
	return c.delete(ctx, n, live, policyOf(live))
}

// policyOf returns the propagation policy that the object's finalizers already ask for.
func policyOf(o *metav1.PartialObjectMetadata) metav1.DeletionPropagation {
	switch {
	case slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// classify sorts the owners into those that exist and stay, those that do not exist, and those that wait for
// their dependents.
func (c *Collector) classify(ctx context.Context, n *node, refs []metav1.OwnerReference) (solid, dangling, waiting []types.UID, err error) {
	for _, ref := range refs {
		live, err := c.readOwner(ctx, n, ref)
		switch {
		case err != nil:
			return nil, nil, nil, err
		case live == nil:
			dangling = append(dangling, ref.UID)
		case live.DeletionTimestamp != nil && slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents):
			waiting = append(waiting, ref.UID)
		default:
			solid = append(solid, ref.UID)
		}
	}
	return solid, dangling, waiting, nil
}

// absentOwner is an owner that does not exist, as referenced from a namespace.
type absentOwner struct {
	apiVersion, kind, namespace, name string
	uid                               types.UID
}

// readOwner returns the owner that a reference names, or nil if it does not exist.
func (c *Collector) readOwner(ctx context.Context, n *node, ref metav1.OwnerReference) (*metav1.PartialObjectMetadata, error) {
	k, err := c.kinds.of(ref)
	if err != nil {
		return nil, err
	}
	namespace := n.namespace
	if !k.namespaced {
		namespace = ""
	} else if namespace == "" {
		c.warnNamespace(n, ref)
		return nil, errNamespacedOwner
	}
	key := absentOwner{ref.APIVersion, ref.Kind, namespace, ref.Name, ref.UID}
	if _, ok := c.absent.Get(key); ok {
		return nil, nil
	}
	live, err := c.metadata.Resource(k.gvr).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != ref.UID {
		c.absent.Add(key, nil)
		if elsewhere, _ := c.graph.get(ref.UID); elsewhere != nil && elsewhere.namespace != namespace {
			c.warnNamespace(n, ref)
		}
		return nil, nil
	}
	return live, err
}

// warnNamespace records an event that a reference names an owner in another namespace.
func (c *Collector) warnNamespace(n *node, ref metav1.OwnerReference) {
	on := &corev1.ObjectReference{
		APIVersion: n.kind.gvk.GroupVersion().String(), Kind: n.kind.gvk.Kind,
		Namespace: n.namespace, Name: n.name, UID: n.uid,
	}
	c.recorder.Eventf(on, corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
		"ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
		ref.APIVersion, ref.Kind, n.namespace, ref.Name, ref.UID, n.namespace)
}

func (c *Collector) client(n *node) metadata.ResourceInterface {
	return c.metadata.Resource(n.kind.gvr).Namespace(n.namespace)
}

// read returns the object as it is on the server. It returns NotFound also if another object has the name by
// now.
func (c *Collector) read(ctx context.Context, n *node) (*metav1.PartialObjectMetadata, error) {
	live, err := c.client(n).Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if live.UID != n.uid {
		return nil, apierrors.NewNotFound(n.kind.gvr.GroupResource(), n.name)
	}
	return live, nil
}

func (c *Collector) delete(ctx context.Context, n *node, live *metav1.PartialObjectMetadata, policy metav1.DeletionPropagation) error {
	return c.client(n).Delete(ctx, n.name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion},
		PropagationPolicy: &policy,
	})
}

// dropOwners removes owner references from the object.
func (c *Collector) dropOwners(ctx context.Context, n *node, live *metav1.PartialObjectMetadata, uids []types.UID) error {
	left := slices.DeleteFunc(slices.Clone(live.OwnerReferences), func(ref metav1.OwnerReference) bool {
		return slices.Contains(uids, ref.UID)
	})
	if len(left) == len(live.OwnerReferences) {
		return nil
	}
	return c.patch(ctx, n, live, "ownerReferences", left)
}

// unblock allows the object's owners to be deleted before it.
func (c *Collector) unblock(ctx context.Context, n *node, live *metav1.PartialObjectMetadata) error {
	refs := slices.Clone(live.OwnerReferences)
	blocks := false
	for i := range refs {
		blocks = blocks || refs[i].BlockOwnerDeletion != nil && *refs[i].BlockOwnerDeletion
		refs[i].BlockOwnerDeletion = new(bool)
	}
	if blocks {
		if err := c.patch(ctx, n, live, "ownerReferences", refs); err != nil {
			return err
		}
		var err error
		if live, err = c.read(ctx, n); err != nil {
			return err
		}
	}
	return c.delete(ctx, n, live, metav1.DeletePropagationForeground)
}

func (c *Collector) removeFinalizer(ctx context.Context, n *node, finalizer string) error {
	live, err := c.read(ctx, n)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool { return f == finalizer })
	if len(left) == len(live.Finalizers) {
		return nil
	}
	return c.patch(ctx, n, live, "finalizers", left)
}

// patch sets one metadata field, provided that the object is unchanged since it was read.
func (c *Collector) patch(ctx context.Context, n *node, live *metav1.PartialObjectMetadata, field string, value any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.UID, "resourceVersion": live.ResourceVersion, field: value,
	}})
	if err != nil {
		return fmt.Errorf("encode the patch of %s of %s: %w", field, n, err)
	}
	_, err = c.client(n).Patch(ctx, n.name, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}
