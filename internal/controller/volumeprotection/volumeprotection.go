// Package volumeprotection keeps volumes and claims that are being deleted for as long as they are in use. Each
// is created with a finalizer. The controller removes it when no scheduled Pod uses the claim, or no claim is
// bound to the volume.
//
// It does not watch volumes and claims, which most nodes never have: the garbage collector, which watches
// everything, notifies it.
package volumeprotection

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// The finalizers, and the resources that have them.
const (
	VolumeFinalizer = "kubernetes.io/pv-protection"
	ClaimFinalizer  = "kubernetes.io/pvc-protection"

	volumes = "persistentvolumes"
	claims  = "persistentvolumeclaims"
)

// Controller removes the finalizers.
type Controller struct {
	client kubernetes.Interface
	synced cache.InformerSynced
	loop   *loop.Loop[types.NamespacedName] // volumes have no namespace, claims have one

	mu sync.Mutex
	// leaving are the claims that wait to be deleted, by namespace.
	leaving map[string]map[string]bool
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock) *Controller {
	pods := src.Pods().Informer()
	k := &Controller{client: client, synced: pods.HasSynced, leaving: map[string]map[string]bool{}}
	k.loop = loop.New("volumeprotection", c, 2, k.sync)
	sources.OnDiff(pods, func(_, now *corev1.Pod) {
		if now != nil && shutDown(now) {
			k.onPodLeft(now.Namespace)
		}
	})
	sources.OnDelete(pods, func(o metav1.Object) { k.onPodLeft(o.GetNamespace()) })
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced)
}

// OnSeen handles an object of any kind that was found, changed or deleted.
func (k *Controller) OnSeen(resource schema.GroupResource, o metav1.Object, gone bool) {
	if resource.Group != "" || resource.Resource != volumes && resource.Resource != claims {
		return
	}
	finalizer := VolumeFinalizer
	if resource.Resource == claims {
		finalizer = ClaimFinalizer
	}
	waits := !gone && o.GetDeletionTimestamp() != nil && slices.Contains(o.GetFinalizers(), finalizer)
	if resource.Resource == claims {
		k.note(o.GetNamespace(), o.GetName(), waits)
	}
	if waits {
		k.loop.Add(sources.NameOf(o))
	}
}

func (k *Controller) note(namespace, claim string, waits bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if waits {
		if k.leaving[namespace] == nil {
			k.leaving[namespace] = map[string]bool{}
		}
		k.leaving[namespace][claim] = true
		return
	}
	if delete(k.leaving[namespace], claim); len(k.leaving[namespace]) == 0 {
		delete(k.leaving, namespace)
	}
}

// onPodLeft queues the claims that a Pod of the namespace may have used.
func (k *Controller) onPodLeft(namespace string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for claim := range k.leaving[namespace] {
		k.loop.Add(types.NamespacedName{Namespace: namespace, Name: claim})
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	free := k.freeVolume
	if name.Namespace != "" {
		free = k.freeClaim
	}
	switch err := free(ctx, name); {
	case err == nil, apierrors.IsNotFound(err):
		return 0, nil
	default:
		return 0, fmt.Errorf("release %s: %w", name, err)
	}
}

// freeVolume removes the finalizer from a volume that is being deleted, unless a claim is bound to it.
func (k *Controller) freeVolume(ctx context.Context, name types.NamespacedName) error {
	v, err := k.client.CoreV1().PersistentVolumes().Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil || v.Status.Phase == corev1.VolumeBound || !release(&v.ObjectMeta, VolumeFinalizer) {
		return err
	}
	_, err = k.client.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{})
	return err
}

// freeClaim removes the finalizer from a claim that is being deleted, unless a Pod uses it. It lists the Pods
// from the server: the informer may lag, and its Pods have no volumes.
func (k *Controller) freeClaim(ctx context.Context, name types.NamespacedName) error {
	c, err := k.client.CoreV1().PersistentVolumeClaims(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil || !release(&c.ObjectMeta, ClaimFinalizer) {
		return err
	}
	pods, err := k.client.CoreV1().Pods(name.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return uses(&p, c) }) {
		return nil
	}
	_, err = k.client.CoreV1().PersistentVolumeClaims(name.Namespace).Update(ctx, c, metav1.UpdateOptions{})
	return err
}

// release removes the finalizer from an object that is being deleted, and reports whether it was there.
func release(m *metav1.ObjectMeta, finalizer string) bool {
	i := slices.Index(m.Finalizers, finalizer)
	if i < 0 || m.DeletionTimestamp == nil {
		return false
	}
	m.Finalizers = slices.Delete(m.Finalizers, i, i+1)
	return true
}

// uses reports whether a Pod holds a claim that is being deleted: the Pod has a node and names the claim, or
// owns it as the claim of its ephemeral volume. Other Pods do not matter, because no node starts a Pod with
// such a claim.
func uses(p *corev1.Pod, c *corev1.PersistentVolumeClaim) bool {
	if p.Spec.NodeName == "" {
		return false
	}
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == c.Name {
			return true
		}
		if v.Ephemeral != nil && p.Name+"-"+v.Name == c.Name && metav1.IsControlledBy(c, p) && !shutDown(p) {
			return true
		}
	}
	return false
}

// shutDown reports whether the Pod's node is done with it and only finalizers keep the object.
func shutDown(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
}
