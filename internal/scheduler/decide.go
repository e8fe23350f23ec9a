package scheduler

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// noNodes is the message for a Pod in a cluster without nodes.
const noNodes = "no nodes available to schedule pods"

// decide finds the Pod a node, or says why there is none.
func (s *Scheduler) decide(ctx context.Context, item *queue.Item) {
	pod, p := item.Pod, s.profileOf(item.Pod.Pod)
	if pod.Pod.DeletionTimestamp != nil {
		s.recorder.Eventf(pod.Pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "skip schedule deleting pod: %s", pod.Name())
		s.queue.Done(item)
		return
	}
	if s.cache.NodeOf(pod.Pod.UID) != "" {
		s.queue.Done(item) // it came in again while it was on its way
		return
	}
	s.cache.Update(s.snapshot)
	if len(s.snapshot.Nodes) == 0 {
		s.refuse(item, profile.Refusal{Message: noNodes, Clear: true}, []framework.Hint{{Kinds: framework.NodeAdd}})
		return
	}
	cycle, whole := p.Begin(pod, s.snapshot)
	var fitting []*framework.NodeInfo
	failed := whole
	if whole == nil {
		fitting, failed = cycle.Find()
	}
	switch {
	case failed != nil && failed.Code == framework.Failed:
		s.fail(item, failed.Err)
	case len(fitting) == 0:
		refusal := cycle.Refusal(whole, cycle.PostFilter(ctx))
		s.refuse(item, refusal, p.Hints(refusal.Plugins))
	default:
		s.place(ctx, item, p, cycle.Choose(fitting).Node.Name)
	}
}

// place counts the Pod as being on the node and has it bound beside.
func (s *Scheduler) place(ctx context.Context, item *queue.Item, p *profile.Profile, node string) {
	assumed := placedOn(item.Pod, node)
	if err := s.cache.Assume(assumed, node); err != nil {
		s.fail(item, err)
		return
	}
	if status := p.Reserve(assumed, node); status != nil {
		s.cache.Forget(assumed.Pod.UID)
		if status.Code == framework.Failed {
			s.fail(item, status.Err)
			return
		}
		refusal := profile.Refusal{Message: "0/1 nodes are available: 1 " + status.Message() + ".", Clear: true}
		s.refuse(item, refusal, p.Hints([]string{status.Plugin}))
		return
	}
	s.nominated.Remove(assumed.Pod.UID)
	s.queue.Done(item)
	s.beside.Go(func() {
		s.bindings <- struct{}{}
		defer func() { <-s.bindings }()
		s.bind(ctx, item, p, assumed, node)
	})
}

// placedOn answers with the Pod as it will be on the node.
func placedOn(p *framework.PodInfo, node string) *framework.PodInfo {
	pod, info := *p.Pod, *p
	pod.Spec.NodeName = node
	info.Pod = &pod
	return &info
}

// bind makes the decision known. When that fails the room is given back and the Pod tried again.
func (s *Scheduler) bind(ctx context.Context, item *queue.Item, p *profile.Profile, assumed *framework.PodInfo, node string) {
	if s.bindingTime > 0 {
		var cancel context.CancelFunc
		// What was decided as the leader is carried out within the time that is left to the leader.
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), s.bindingTime)
		defer cancel()
	}
	err := p.Binder().Bind(ctx, assumed, node)
	if err == nil {
		klog.V(2).InfoS("Bound a pod", "pod", klog.KObj(assumed.Pod), "node", node, "attempts", item.Attempts)
		s.recorder.Eventf(assumed.Pod, nil, corev1.EventTypeNormal, "Scheduled", "Binding", "Successfully assigned %s to %s", assumed.Name(), node)
		return
	}
	if ctx.Err() != nil {
		return
	}
	p.Unreserve(assumed, node)
	if !s.cache.Forget(assumed.Pod.UID) {
		return // it is bound, or gone: the watch has said so
	}
	s.queue.Event(framework.Event{Kinds: framework.PodGone, Old: assumed})
	s.fail(item, err)
}

// refuse puts the Pod back to wait for what may help, and says why it waits.
func (s *Scheduler) refuse(item *queue.Item, refusal profile.Refusal, hints []framework.Hint) {
	pod := item.Pod
	klog.V(2).InfoS("No node for a pod", "pod", klog.KObj(pod.Pod), "message", refusal.Message)
	change := statusChange{reason: corev1.PodReasonUnschedulable, message: refusal.Message}
	switch {
	case refusal.Nominated != "":
		s.nominated.Set(pod, refusal.Nominated)
		change.nominated = &refusal.Nominated
	case refusal.Clear:
		s.nominated.Remove(pod.Pod.UID)
		change.nominated = new(string)
	}
	s.queue.Refused(item, hints)
	s.tell(pod.Pod, change)
}

// fail has the Pod tried again after its back-off, unless it is gone or bound, and says what failed.
func (s *Scheduler) fail(item *queue.Item, err error) {
	pod := item.Pod
	klog.ErrorS(err, "Could not schedule a pod, will try again", "pod", klog.KObj(pod.Pod))
	newest, getErr := s.sources.pods().Pods(pod.Pod.Namespace).Get(pod.Pod.Name)
	if getErr != nil || newest.UID != pod.Pod.UID || newest.Spec.NodeName != "" {
		s.queue.Done(item)
		return
	}
	item.Pod = framework.NewPodInfo(newest)
	s.queue.Failed(item)
	s.tell(newest, statusChange{reason: corev1.PodReasonSchedulerError, message: err.Error(), nominated: new(string)})
}

// longestNote is the longest message that an event may have.
const longestNote = 1024

// tell records why the Pod has no node, as an event and in its condition PodScheduled.
func (s *Scheduler) tell(pod *corev1.Pod, change statusChange) {
	note := change.message
	if len(note) > longestNote {
		note = note[:longestNote-len(" ...")] + " ..."
	}
	s.recorder.Eventf(pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", note)
	s.statuses.write(pod, change)
}
