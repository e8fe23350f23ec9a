package scheduler

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// noNodes is the message for a Pod in a cluster without nodes.
const noNodes = "no nodes available to schedule pods"

// bindPause is the time between two tries of a binding that the API server does not answer.
const bindPause = 100 * time.Millisecond

// decide finds the Pod a node. If no node fits, it records why.
func (s *Scheduler) decide(ctx context.Context, item *queue.Item) {
	pod, p := item.Pod, s.profileOf(item.Pod.Pod)
	if pod.Pod.DeletionTimestamp != nil {
		s.recorder.Eventf(pod.Pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "skip schedule deleting pod: %s", pod.Name())
		s.queue.Done(item)
		return
	}
	if s.cache.NodeOf(pod.Pod.UID) != "" {
		s.queue.Done(item) // it was added again while it was being bound
		return
	}
	s.cache.Update(s.snapshot)
	if len(s.snapshot.Nodes) == 0 {
		s.refuse(ctx, item, profile.Refusal{Message: noNodes, Clear: true}, []framework.Hint{{Kinds: framework.NodeAdd}})
		return
	}
	cycle, whole := p.Begin(pod, s.snapshot)
	var fitting []*framework.NodeInfo
	failed := whole
	if whole == nil {
		fitting, failed = cycle.Find()
	}
	if ctx.Err() != nil {
		return // a plugin that waited for a list may have decided without it
	}
	switch {
	case failed != nil && failed.Code == framework.Failed:
		s.fail(ctx, item, failed.Err)
	case len(fitting) == 0:
		refusal := cycle.Refusal(whole, cycle.PostFilter(ctx))
		s.refuse(ctx, item, refusal, p.Hints(refusal.Plugins))
	default:
		s.place(ctx, item, p, cycle.Choose(fitting).Node.Name)
	}
}

// place assumes the Pod on the node and binds it in the background.
func (s *Scheduler) place(ctx context.Context, item *queue.Item, p *profile.Profile, node string) {
	assumed := placedOn(item.Pod, node)
	if err := s.cache.Assume(assumed, node); err != nil {
		s.fail(ctx, item, err)
		return
	}
	if status := p.Reserve(assumed, node); status != nil {
		s.cache.Forget(assumed.Pod.UID)
		if status.Code == framework.Failed {
			s.fail(ctx, item, status.Err)
			return
		}
		refusal := profile.Refusal{Message: "0/1 nodes are available: 1 " + status.Message() + ".", Clear: true}
		s.refuse(ctx, item, refusal, p.Hints([]string{status.Plugin}))
		return
	}
	s.nominated.Remove(assumed.Pod.UID)
	s.queue.Done(item)
	s.background.Go(func() {
		s.bindings <- struct{}{}
		defer func() { <-s.bindings }()
		s.bind(ctx, item, p, assumed, node)
	})
}

// placedOn returns the Pod as it will be on the node.
func placedOn(p *framework.PodInfo, node string) *framework.PodInfo {
	pod, info := *p.Pod, *p
	pod.Spec.NodeName = node
	info.Pod = &pod
	return &info
}

// bind writes the decision to the API server. If that fails, bind gives the room back and the Pod is tried
// again.
func (s *Scheduler) bind(ctx context.Context, item *queue.Item, p *profile.Profile, assumed *framework.PodInfo, node string) {
	err := s.bindAnswered(ctx, p.Binder(), assumed, node)
	if err == nil {
		klog.FromContext(ctx).V(2).Info("Bound pod", "pod", klog.KObj(assumed.Pod), "node", node, "attempts", item.Attempts)
		s.recorder.Eventf(assumed.Pod, nil, corev1.EventTypeNormal, "Scheduled", "Binding", "Successfully assigned %s to %s", assumed.Name(), node)
		return
	}
	if ctx.Err() != nil {
		return // this scheduler decides no more
	}
	p.Unreserve(assumed, node)
	if !s.cache.Forget(assumed.Pod.UID) {
		return // already bound or deleted: the watch has reported it
	}
	s.queue.Event(framework.Event{Kinds: framework.PodGone, Old: assumed})
	s.fail(ctx, item, err)
}

// bindAnswered binds the Pod until the API server answers or ctx ends. A binding without an answer may have been
// made, or may yet be: the Pod keeps its room on the node meanwhile, and only that node is asked for again.
func (s *Scheduler) bindAnswered(ctx context.Context, binder framework.Binder, assumed *framework.PodInfo, node string) error {
	for asked := false; ; asked = true {
		err := s.bindOnce(ctx, binder, assumed, node)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !unanswered(err):
			if asked && apierrors.IsConflict(err) && s.isBoundTo(ctx, assumed, node) {
				return nil // by the binding whose answer was lost
			}
			return err
		}
		klog.FromContext(ctx).Error(err, "No answer to a binding, will ask for the same node again", "pod", klog.KObj(assumed.Pod), "node", node)
		pause := s.clock.NewTimer(bindPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C():
		}
	}
}

// bindOnce binds the Pod within the time that a leader has for what it decided.
func (s *Scheduler) bindOnce(ctx context.Context, binder framework.Binder, assumed *framework.PodInfo, node string) error {
	if s.bindingTime > 0 {
		var cancel context.CancelFunc
		// A decision made as the leader must be carried out within the time that the lease leaves.
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), s.bindingTime)
		defer cancel()
	}
	return binder.Bind(ctx, assumed, node)
}

// unanswered reports whether the error leaves open what the API server did.
func unanswered(err error) bool {
	var answer apierrors.APIStatus
	return !errors.As(err, &answer) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

// isBoundTo asks the API server whether the Pod is on the node.
func (s *Scheduler) isBoundTo(ctx context.Context, assumed *framework.PodInfo, node string) bool {
	pod, err := s.client.CoreV1().Pods(assumed.Pod.Namespace).Get(ctx, assumed.Pod.Name, metav1.GetOptions{})
	return err == nil && pod.UID == assumed.Pod.UID && pod.Spec.NodeName == node
}

// refuse makes the Pod wait for events that may help, and records why it waits.
func (s *Scheduler) refuse(ctx context.Context, item *queue.Item, refusal profile.Refusal, hints []framework.Hint) {
	pod := item.Pod
	klog.FromContext(ctx).V(2).Info("Found no node for pod", "pod", klog.KObj(pod.Pod), "message", refusal.Message)
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

// fail makes the Pod wait for its back-off and records the error, unless the Pod is deleted or bound.
func (s *Scheduler) fail(ctx context.Context, item *queue.Item, err error) {
	pod := item.Pod
	klog.FromContext(ctx).Error(err, "Failed to schedule pod, will retry", "pod", klog.KObj(pod.Pod))
	newest, getErr := s.sources.pods().Pods(pod.Pod.Namespace).Get(pod.Pod.Name)
	if getErr != nil || newest.UID != pod.Pod.UID || newest.Spec.NodeName != "" {
		s.queue.Done(item)
		return
	}
	item.Pod = framework.NewPodInfo(newest)
	s.queue.Failed(item)
	s.tell(newest, statusChange{reason: corev1.PodReasonSchedulerError, message: err.Error(), nominated: new(string)})
}

// longestNote is the longest note that an event may have, in bytes (events.k8s.io/v1, field note).
const longestNote = 1024

// tell records why the Pod has no node, in an event and in its PodScheduled condition.
func (s *Scheduler) tell(pod *corev1.Pod, change statusChange) {
	note := change.message
	if len(note) > longestNote {
		note = note[:longestNote-len(" ...")] + " ..."
	}
	s.recorder.Eventf(pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", note)
	s.statuses.write(pod, change)
}
