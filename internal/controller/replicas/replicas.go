// Package replicas maintains the wanted number of Pods of each ReplicaSet and ReplicationController.
package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/loop"
	"podium.dev/podium/internal/controller/sources"
)

// The sources of the events.
const (
	ReplicaSetComponent = "replicaset-controller"
	ControllerComponent = "replication-controller"
)

// mostAtOnce bounds the Pods that one round creates or deletes (burstReplicas of Kubernetes' ReplicaSet
// controller).
const mostAtOnce = 500

// The kinds, as owner references name them.
const (
	kindReplicaSet = "ReplicaSet"
	kindController = "ReplicationController"
)

// key names a set.
type key struct{ kind, namespace, name string }

// Controller maintains the sets.
type Controller struct {
	client      kubernetes.Interface
	recorders   map[string]record.EventRecorder
	pods        corelisters.PodLister
	replicaSets appslisters.ReplicaSetLister
	controllers corelisters.ReplicationControllerLister
	synced      []cache.InformerSynced
	clock       clock.Clock
	loop        *loop.Loop[key]

	mu      sync.Mutex
	pending map[types.UID]*pending
}

// New returns a controller. The recorders are those of the two components.
func New(client kubernetes.Interface, src *sources.Sources, replicaSetEvents, controllerEvents record.EventRecorder, c clock.Clock) *Controller {
	pods := src.Pods()
	replicaSets, controllers := src.All().Apps().V1().ReplicaSets(), src.All().Core().V1().ReplicationControllers()
	k := &Controller{
		client: client, clock: c, pending: map[types.UID]*pending{},
		recorders: map[string]record.EventRecorder{kindReplicaSet: replicaSetEvents, kindController: controllerEvents},
		pods:      pods.Lister(), replicaSets: replicaSets.Lister(), controllers: controllers.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, replicaSets.Informer().HasSynced, controllers.Informer().HasSynced},
	}
	k.loop = loop.New("replicas", c, 5, k.sync)
	sources.OnChange(replicaSets.Informer(), func(o metav1.Object) { k.loop.Add(key{kindReplicaSet, o.GetNamespace(), o.GetName()}) })
	sources.OnChange(controllers.Informer(), func(o metav1.Object) { k.loop.Add(key{kindController, o.GetNamespace(), o.GetName()}) })
	forget := func(o metav1.Object) {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.pending, o.GetUID())
	}
	sources.OnDelete(replicaSets.Informer(), forget)
	sources.OnDelete(controllers.Informer(), forget)
	sources.OnDiff(pods.Informer(), k.onPodChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	if cache.WaitForCacheSync(ctx.Done(), k.synced...) {
		k.loop.Run(ctx)
	}
}

// onPodChange queues the sets that own the Pod or did so before. A Pod without an owner may be adopted by any
// set that selects it.
func (k *Controller) onPodChange(old, now *corev1.Pod) {
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			if owner.Kind == kindReplicaSet || owner.Kind == kindController {
				k.loop.Add(key{owner.Kind, pod.Namespace, owner.Name})
			}
			continue
		}
		if pod == now {
			k.offer(pod)
		}
	}
	if now == nil && old != nil {
		k.forgetCreated(old)
	}
}

// forgetCreated drops a Pod that was created and deleted before the watch showed it.
func (k *Controller) forgetCreated(pod *corev1.Pod) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.pending[owner.UID]; p != nil {
		delete(p.created, pod.UID)
		delete(p.deleted, pod.UID)
	}
}

// offer queues the sets that select a Pod without an owner.
func (k *Controller) offer(pod *corev1.Pod) {
	if len(pod.Labels) == 0 {
		return
	}
	sets, _ := k.replicaSets.ReplicaSets(pod.Namespace).List(labels.Everything()) // the informers' stores do not fail
	for _, rs := range sets {
		if s, err := fromReplicaSet(rs); err == nil && s.selector.Matches(labels.Set(pod.Labels)) {
			k.loop.Add(key{kindReplicaSet, rs.Namespace, rs.Name})
		}
	}
	controllers, _ := k.controllers.ReplicationControllers(pod.Namespace).List(labels.Everything())
	for _, rc := range controllers {
		if s, err := fromController(rc); err == nil && s.selector.Matches(labels.Set(pod.Labels)) {
			k.loop.Add(key{kindController, rc.Namespace, rc.Name})
		}
	}
}

// get returns a set from the informer, or nil if it does not exist.
func (k *Controller) get(name key) (*set, error) {
	if name.kind == kindReplicaSet {
		rs, err := k.replicaSets.ReplicaSets(name.namespace).Get(name.name)
		if err != nil {
			return nil, nil
		}
		return fromReplicaSet(rs)
	}
	rc, err := k.controllers.ReplicationControllers(name.namespace).Get(name.name)
	if err != nil {
		return nil, nil
	}
	return fromController(rc)
}

func (k *Controller) sync(ctx context.Context, name key) (time.Duration, error) {
	s, err := k.get(name)
	if s == nil || err != nil {
		return 0, err
	}
	pods, err := k.pods.Pods(s.Namespace).List(labels.Everything())
	if err != nil {
		return 0, fmt.Errorf("list the pods of namespace %s: %w", s.Namespace, err)
	}
	mine, err := k.claim(ctx, s, pods)
	if apierrors.IsConflict(err) {
		return retryConflict, nil
	}
	if err != nil {
		return 0, err
	}
	var manageErr error
	if s.DeletionTimestamp == nil {
		manageErr = k.manage(ctx, s, mine, pods)
	}
	st, again := statusOf(s, mine, manageErr, k.clock.Now())
	if !st.equal(s.status) {
		if err := s.write(ctx, k.client, st); err != nil && !apierrors.IsNotFound(err) {
			if apierrors.IsConflict(err) {
				return retryConflict, manageErr // the watch will show what was written concurrently
			}
			manageErr = errors.Join(manageErr, fmt.Errorf("write the status of %s %s/%s: %w", s.kind.Kind, s.Namespace, s.Name, err))
		}
	}
	return again, manageErr
}

// retryConflict is the pause before a set that was written concurrently is looked at again.
const retryConflict = 10 * time.Millisecond

// claim adopts Pods that the set selects, releases those that it no longer selects, and returns the Pods that
// it owns.
func (k *Controller) claim(ctx context.Context, s *set, pods []*corev1.Pod) ([]*corev1.Pod, error) {
	c := claim(s, pods)
	if s.DeletionTimestamp != nil {
		return c.mine, nil
	}
	for _, p := range c.adopt {
		ref := metav1.NewControllerRef(&s.ObjectMeta, s.kind)
		if err := k.patchOwners(ctx, p, append(p.OwnerReferences, *ref)); err != nil {
			return nil, fmt.Errorf("adopt pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		c.mine = append(c.mine, p)
	}
	for _, p := range c.release {
		var left []metav1.OwnerReference
		for _, ref := range p.OwnerReferences {
			if ref.UID != s.UID {
				left = append(left, ref)
			}
		}
		if err := k.patchOwners(ctx, p, left); err != nil {
			return nil, fmt.Errorf("release pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	return c.mine, nil
}

func (k *Controller) patchOwners(ctx context.Context, p *corev1.Pod, owners []metav1.OwnerReference) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion, "ownerReferences": owners}})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, body, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// manage creates or deletes Pods until there are as many as the set wants.
func (k *Controller) manage(ctx context.Context, s *set, mine, all []*corev1.Pod) error {
	k.mu.Lock()
	p := k.pending[s.UID]
	if p == nil {
		p = &pending{created: map[types.UID]time.Time{}, deleted: map[types.UID]time.Time{}}
		k.pending[s.UID] = p
	}
	seen := map[types.UID]*corev1.Pod{}
	for _, pod := range mine {
		seen[pod.UID] = pod
	}
	have := p.settle(seen, k.clock.Now())
	var running []*corev1.Pod
	for _, pod := range mine {
		if _, going := p.deleted[pod.UID]; active(pod) && !going {
			running = append(running, pod)
		}
	}
	k.mu.Unlock()
	have += len(running)
	switch {
	case have < s.want:
		return k.create(ctx, s, p, min(s.want-have, mostAtOnce))
	case have > s.want && len(running) > 0:
		n := min(have-s.want, mostAtOnce, len(running))
		return k.remove(ctx, s, p, dispensable(running, related(s, all), k.clock.Now())[:n])
	}
	return nil
}

// related returns the Pods that count for crowded nodes. The set's own Pods suffice: those of its siblings are
// about to be deleted.
func related(s *set, all []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range all {
		if s.selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// create creates n Pods, first one and then twice as many each time, so that a set whose Pods are rejected does
// not make hundreds of calls.
func (k *Controller) create(ctx context.Context, s *set, p *pending, n int) error {
	for batch := 1; n > 0; batch *= 2 {
		batch = min(batch, n)
		err := each(batch, func(int) error {
			pod, err := k.client.CoreV1().Pods(s.Namespace).Create(ctx, podOf(s), metav1.CreateOptions{})
			switch {
			case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
				return nil
			case err != nil:
				k.recorders[s.kind.Kind].Eventf(s.object, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
				return err
			}
			k.mu.Lock()
			p.created[pod.UID] = k.clock.Now()
			k.mu.Unlock()
			k.recorders[s.kind.Kind].Eventf(s.object, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod.Name)
			return nil
		})
		if err != nil {
			return err
		}
		n -= batch
	}
	return nil
}

func (k *Controller) remove(ctx context.Context, s *set, p *pending, pods []*corev1.Pod) error {
	return each(len(pods), func(i int) error {
		pod := pods[i]
		k.mu.Lock()
		p.deleted[pod.UID] = k.clock.Now()
		k.mu.Unlock()
		err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err == nil {
			k.recorders[s.kind.Kind].Eventf(s.object, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
			return nil
		}
		k.mu.Lock()
		delete(p.deleted, pod.UID)
		k.mu.Unlock()
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		k.recorders[s.kind.Kind].Eventf(s.object, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return err
	})
}

// callsAtOnce bounds the concurrent calls of one set.
const callsAtOnce = 16

// each calls f for 0 to n-1, some concurrently, and returns the first error.
func each(n int, f func(int) error) error {
	var mu sync.Mutex
	var firstErr error
	var all sync.WaitGroup
	slots := make(chan struct{}, callsAtOnce)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := f(i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if firstErr == nil {
					firstErr = err
				}
			}
		})
	}
	all.Wait()
	return firstErr
}

// podOf returns a new Pod from the set's template.
func podOf(s *set) *corev1.Pod {
	template := s.template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: prefix(s.Name), Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&s.ObjectMeta, s.kind)},
		},
		Spec: template.Spec,
	}
}

// prefix returns the prefix of the names of the set's Pods.
func prefix(name string) string {
	if len(name) > longestName {
		return name
	}
	return name + "-"
}

// longestName is the longest name to which a dash can be appended to form the prefix of a Pod's name.
const longestName = 252
