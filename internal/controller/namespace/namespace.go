// Package namespace empties a namespace that is being deleted and then releases it.
//
// A deletion sets the deletionTimestamp. This controller sets the phase Terminating, deletes the Pods, waits
// until the last of them is gone (they may still need the rest), deletes everything else, reports progress in
// the namespace's conditions, and removes the finalizer "kubernetes" when nothing is left. The API server then
// removes the object.
package namespace

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// system are the namespaces that every cluster has.
var system = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// Controller deletes the contents of namespaces that are being deleted, and creates the system namespaces.
type Controller struct {
	client     kubernetes.Interface
	metadata   metadata.Interface
	discovery  discovery.DiscoveryInterface
	namespaces corelisters.NamespaceLister
	synced     []cache.InformerSynced
	clock      clock.Clock
	loop       *loop.Loop[string]
}

// New returns a controller.
func New(client kubernetes.Interface, meta metadata.Interface, src *sources.Sources, c clock.Clock) *Controller {
	namespaces, pods := src.Namespaces(), src.Pods()
	k := &Controller{
		client:     client,
		metadata:   meta,
		discovery:  client.Discovery(),
		namespaces: namespaces.Lister(),
		synced:     []cache.InformerSynced{namespaces.Informer().HasSynced},
		clock:      c,
	}
	k.loop = loop.New("namespace", c, 10, k.sync)
	sources.OnAny(namespaces.Informer(), func(o metav1.Object) {
		if o.GetDeletionTimestamp() != nil || slices.Contains(system, o.GetName()) {
			k.loop.Add(o.GetName())
		}
	})
	sources.OnDelete(pods.Informer(), func(o metav1.Object) { k.OnRemoved(o.GetNamespace()) })
	return k
}

// OnRemoved handles the deletion of an object in the namespace, so that a deletion that waits for it continues
// at once.
func (k *Controller) OnRemoved(namespace string) {
	if ns, err := k.namespaces.Get(namespace); err == nil && ns.DeletionTimestamp != nil {
		k.loop.Add(namespace)
	}
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	for _, name := range system {
		k.loop.Add(name)
	}
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	if _, err := k.namespaces.Get(name); err != nil {
		return 0, k.createSystem(ctx, name)
	}
	// The conditions written below build on each other, so read the newest state instead of the informer's.
	ns, err := k.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read namespace %s: %w", name, err)
	}
	if ns.DeletionTimestamp == nil || len(ns.Spec.Finalizers) == 0 {
		return 0, nil
	}
	return k.empty(ctx, ns)
}

// createSystem creates a system namespace that does not exist.
func (k *Controller) createSystem(ctx context.Context, name string) error {
	if !slices.Contains(system, name) {
		return nil
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := k.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

// empty performs one round of a deletion. It returns the time after which to look again if something is left
// that no event may report.
func (k *Controller) empty(ctx context.Context, ns *corev1.Namespace) (time.Duration, error) {
	ns, err := k.update(ctx, ns, func(ns *corev1.Namespace) (*corev1.Namespace, error) {
		if ns.Status.Phase == corev1.NamespaceTerminating {
			return ns, nil
		}
		ns.Status.Phase = corev1.NamespaceTerminating
		return k.client.CoreV1().Namespaces().UpdateStatus(ctx, ns, metav1.UpdateOptions{})
	})
	if err != nil || ns == nil || ns.DeletionTimestamp == nil {
		return 0, err
	}
	left := k.deleteContent(ctx, ns)
	status := ns.Status.DeepCopy()
	if setConditions(status, left, k.clock.Now()) {
		written, err := k.update(ctx, ns, func(ns *corev1.Namespace) (*corev1.Namespace, error) {
			ns.Status.Conditions = status.Conditions
			return k.client.CoreV1().Namespaces().UpdateStatus(ctx, ns, metav1.UpdateOptions{})
		})
		if err != nil || written == nil {
			return 0, err
		}
		ns = written
	}
	if err := left.err(); err != nil {
		return 0, fmt.Errorf("empty namespace %s: %w", ns.Name, err)
	}
	if left.estimate > 0 {
		return left.estimate/2 + time.Second, nil
	}
	_, err = k.update(ctx, ns, func(ns *corev1.Namespace) (*corev1.Namespace, error) {
		ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool {
			return f == corev1.FinalizerKubernetes
		})
		return k.client.CoreV1().Namespaces().Finalize(ctx, ns, metav1.UpdateOptions{})
	})
	return 0, err
}

// update applies a change, and applies it again to the newest state after a conflict. It returns nil without an
// error if the namespace is gone.
func (k *Controller) update(ctx context.Context, ns *corev1.Namespace, change func(*corev1.Namespace) (*corev1.Namespace, error)) (*corev1.Namespace, error) {
	uid := ns.UID
	var out *corev1.Namespace
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var err error
		if out, err = change(ns.DeepCopy()); !apierrors.IsConflict(err) {
			return err
		}
		newest, getErr := k.client.CoreV1().Namespaces().Get(ctx, ns.Name, metav1.GetOptions{})
		if getErr != nil {
			return getErr
		}
		if newest.UID != uid {
			return apierrors.NewNotFound(corev1.Resource("namespaces"), ns.Name)
		}
		ns = newest
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("update namespace %s: %w", ns.Name, err)
	}
	return out, nil
}

// deleteNow returns the options of every delete. Dependents are deleted in the background, because they are in
// the namespace as well.
func deleteNow(uid types.UID) metav1.DeleteOptions {
	background := metav1.DeletePropagationBackground
	o := metav1.DeleteOptions{PropagationPolicy: &background}
	if uid != "" {
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	return o
}
