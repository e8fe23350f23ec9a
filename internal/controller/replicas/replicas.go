// Package replicas maintains the wanted number of Pods of each ReplicaSet and ReplicationController.
package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
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
	expect      *podcontrol.Expectations
}

// New returns a controller. The recorders are those of the two components.
func New(client kubernetes.Interface, src *sources.Sources, replicaSetEvents, controllerEvents record.EventRecorder, c clock.Clock) *Controller {
	pods := src.Pods()
	replicaSets, controllers := src.All().Apps().V1().ReplicaSets(), src.All().Core().V1().ReplicationControllers()
	k := &Controller{
		client: client, clock: c, expect: podcontrol.NewExpectations(c),
		recorders: map[string]record.EventRecorder{kindReplicaSet: replicaSetEvents, kindController: controllerEvents},
		pods:      pods.Lister(), replicaSets: replicaSets.Lister(), controllers: controllers.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, replicaSets.Informer().HasSynced, controllers.Informer().HasSynced},
	}
	k.loop = loop.New("replicas", c, 5, k.sync)
	sources.OnChange(replicaSets.Informer(), func(o metav1.Object) { k.loop.Add(key{kindReplicaSet, o.GetNamespace(), o.GetName()}) })
	sources.OnChange(controllers.Informer(), func(o metav1.Object) { k.loop.Add(key{kindController, o.GetNamespace(), o.GetName()}) })
	forget := func(o metav1.Object) { k.expect.Forget(o.GetUID()) }
	sources.OnDelete(replicaSets.Informer(), forget)
	sources.OnDelete(controllers.Informer(), forget)
	sources.OnDiff(pods.Informer(), k.onPodChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// onPodChange queues the sets that own the Pod or did so before. A Pod without an owner may be adopted by any
// set that selects it.
func (k *Controller) onPodChange(old, now *corev1.Pod) {
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			if now == nil {
				k.expect.Gone(owner.UID, pod.UID)
			}
			if owner.Kind == kindReplicaSet || owner.Kind == kindController {
				k.loop.Add(key{owner.Kind, pod.Namespace, owner.Name})
			}
			continue
		}
		if pod == now {
			k.offer(pod)
		}
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
			manageErr = errors.Join(manageErr, fmt.Errorf("write the status of %s %s/%s: %w", s.kind.Kind, s.Namespace, s.Name, err))
		}
	}
	return again, manageErr
}

// claim adopts Pods that the set selects, releases those that it no longer selects, and returns the Pods that
// it owns.
func (k *Controller) claim(ctx context.Context, s *set, pods []*corev1.Pod) ([]*corev1.Pod, error) {
	keeper := podcontrol.Keeper[*corev1.Pod]{
		Owner: &s.ObjectMeta, Kind: s.kind, Patch: podcontrol.Pods{Client: k.client}.Patch,
		Fresh: func(ctx context.Context) (metav1.Object, error) { return s.fresh(ctx, k.client) },
	}
	return keeper.Keep(ctx, podcontrol.Claim(&s.ObjectMeta, s.selector, pods, podcontrol.Active))
}

// manage creates or deletes Pods until there are as many as the set wants.
func (k *Controller) manage(ctx context.Context, s *set, mine, all []*corev1.Pod) error {
	have, going := podcontrol.Settle(k.expect, s.UID, mine)
	var running []*corev1.Pod
	for _, pod := range mine {
		if podcontrol.Active(pod) && !going(pod) {
			running = append(running, pod)
		}
	}
	have += len(running)
	owner := podcontrol.Owner{Object: &s.ObjectMeta, Kind: s.kind, Events: s.object}
	control := podcontrol.Pods{Client: k.client, Recorder: k.recorders[s.kind.Kind], Expect: k.expect}
	switch {
	case have < s.want:
		_, err := podcontrol.SlowStart(min(s.want-have, mostAtOnce), func(int) error {
			return control.Create(ctx, owner, podcontrol.FromTemplate(owner, s.template))
		})
		return err
	case have > s.want && len(running) > 0:
		n := min(have-s.want, mostAtOnce, len(running))
		surplus := podcontrol.Dispensable(running, related(s, all), k.clock.Now())[:n]
		return podcontrol.Each(n, func(i int) error { return control.Delete(ctx, owner, surplus[i]) })
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
