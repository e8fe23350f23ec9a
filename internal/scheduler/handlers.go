package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/cache"

	"podium.dev/podium/internal/scheduler/framework"
)

// registerHandlers registers the handlers of all watches. Each event goes to the cache first and then to the queue,
// so that a Pod that an event wakes is decided with the change that woke it.
func (s *Scheduler) registerHandlers() {
	s.sources.changed = func(old, now *corev1.Namespace) {
		if !maps.Equal(old.Labels, now.Labels) {
			s.queue.Event(framework.Event{Kinds: framework.NamespaceLabels, Old: old, New: now})
		}
	}
	s.sources.claimed = func() { s.queue.Event(framework.Event{Kinds: framework.ClaimChange}) }
	s.sources.on(s.sources.others.Core().V1().Nodes().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.onNodeChange(nil, as[corev1.Node](o)) },
		UpdateFunc: func(old, o any) { s.onNodeChange(as[corev1.Node](old), as[corev1.Node](o)) },
		DeleteFunc: func(o any) { s.onNodeChange(as[corev1.Node](o), nil) },
	})
	s.sources.on(s.sources.running.Core().V1().Pods().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.onPodChange(nil, as[corev1.Pod](o)) },
		UpdateFunc: func(old, o any) { s.onPodChange(as[corev1.Pod](old), as[corev1.Pod](o)) },
		DeleteFunc: func(o any) { s.onPodGone(as[corev1.Pod](o)) },
	})
}

// as returns the object itself, also if its deletion was missed, or nil if it has another type.
func as[T any](o any) *T {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	t, _ := o.(*T)
	return t
}

func (s *Scheduler) onNodeChange(old, now *corev1.Node) {
	switch {
	case now == nil && old == nil:
		return
	case now == nil:
		s.cache.RemoveNode(old.Name)
		s.queue.Event(framework.Event{Kinds: framework.NodeRemove, Old: old})
	case old == nil:
		s.cache.SetNode(now)
		s.queue.Event(framework.Event{Kinds: framework.NodeAdd, New: now})
	default:
		s.cache.SetNode(now)
		if kinds := nodeChanges(old, now); kinds != 0 {
			s.queue.Event(framework.Event{Kinds: kinds, Old: old, New: now})
		}
	}
}

// nodeChanges returns the changes of a node that decisions depend on.
func nodeChanges(old, now *corev1.Node) framework.EventKind {
	var kinds framework.EventKind
	if !equality.Semantic.DeepEqual(old.Status.Allocatable, now.Status.Allocatable) {
		kinds |= framework.NodeAllocatable
	}
	if !maps.Equal(old.Labels, now.Labels) {
		kinds |= framework.NodeLabels
	}
	if !equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
		kinds |= framework.NodeTaints
	}
	if old.Spec.Unschedulable != now.Spec.Unschedulable {
		kinds |= framework.NodeSchedulable
	}
	if !slices.Equal(old.Status.DeclaredFeatures, now.Status.DeclaredFeatures) {
		kinds |= framework.NodeFeatures
	}
	return kinds
}

// onPodChange handles a Pod that is new (old is nil) or changed.
func (s *Scheduler) onPodChange(old, now *corev1.Pod) {
	if now == nil {
		return
	}
	if old != nil && old.UID != now.UID { // a deletion was missed
		s.onPodGone(old)
		old = nil
	}
	if now.Spec.NodeName != "" {
		s.onPodPlaced(old, framework.NewPodInfo(now))
		return
	}
	if s.profileOf(now) == nil || s.cache.NodeOf(now.UID) != "" {
		return // another scheduler's, or already being bound
	}
	info := framework.NewPodInfo(now)
	if node := now.Status.NominatedNodeName; node != "" && (old == nil || old.Status.NominatedNodeName != node) {
		s.nominated.Set(info, node)
	} else if node == "" && old != nil && old.Status.NominatedNodeName != "" {
		s.nominated.Remove(now.UID)
	}
	s.queue.Add(info, framework.Event{Kinds: ownChanges(old, info), Old: old, New: info})
}

// onPodPlaced handles a Pod that is on a node.
func (s *Scheduler) onPodPlaced(old *corev1.Pod, info *framework.PodInfo) {
	before := s.cache.SetPod(info)
	if old == nil || old.Spec.NodeName == "" {
		s.nominated.Remove(info.Pod.UID)
		s.queue.Delete(info.Pod.UID)
		s.queue.Event(framework.Event{Kinds: framework.PodPlaced, New: info})
		return
	}
	var kinds framework.EventKind
	if before != nil && !maps.Equal(before.Pod.Labels, info.Pod.Labels) {
		kinds |= framework.PodLabels
	}
	if before != nil && shrunk(before, info) {
		kinds |= framework.PodShrunk
	}
	if kinds != 0 {
		s.queue.Event(framework.Event{Kinds: kinds, Old: before, New: info})
	}
}

// shrunk reports whether the Pod requests less of some resource than before.
func shrunk(before, now *framework.PodInfo) bool {
	a, b := &before.Request, &now.Request
	if b.MilliCPU < a.MilliCPU || b.Memory < a.Memory || b.EphemeralStorage < a.EphemeralStorage {
		return true
	}
	for name, n := range a.Scalar {
		if b.Scalar[name] < n {
			return true
		}
	}
	return false
}

// ownChanges returns the changes of a waiting Pod.
func ownChanges(old *corev1.Pod, now *framework.PodInfo) framework.EventKind {
	if old == nil {
		return framework.OwnSpec
	}
	var kinds framework.EventKind
	if !maps.Equal(old.Labels, now.Pod.Labels) {
		kinds |= framework.OwnLabels
	}
	if !equality.Semantic.DeepEqual(old.Spec.Tolerations, now.Pod.Spec.Tolerations) {
		kinds |= framework.OwnTolerations
	}
	if len(old.Spec.SchedulingGates) != len(now.Pod.Spec.SchedulingGates) {
		kinds |= framework.OwnGates
	}
	if shrunk(framework.NewPodInfo(old), now) {
		kinds |= framework.OwnShrunk
	}
	if kinds != 0 || !equality.Semantic.DeepEqual(old.Spec, now.Pod.Spec) {
		kinds |= framework.OwnSpec
	}
	return kinds
}

// onPodGone handles a Pod that was deleted or has ended.
func (s *Scheduler) onPodGone(pod *corev1.Pod) {
	if pod == nil {
		return
	}
	promised := s.nominated.NodeOf(pod.UID) != ""
	s.nominated.Remove(pod.UID)
	s.queue.Delete(pod.UID)
	before := s.cache.RemovePod(pod.UID)
	if before == nil {
		before = framework.NewPodInfo(pod)
		if pod.Spec.NodeName == "" && !promised {
			return // it took no room
		}
	}
	s.queue.Event(framework.Event{Kinds: framework.PodGone, Old: before})
}
