package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/plugins"
)

// victimsAtOnce bounds the victims of one preemption that are asked to go side by side.
const victimsAtOnce = 16

// preempt carries a preemption out beside the decisions. The Pod it is for may be decided on again just
// before the last victim is asked to go, so that the end of that one finds it waiting. When something
// fails it is tried again.
func (s *Scheduler) preempt(p plugins.Preemption) {
	s.beside.Go(func() {
		uid := p.For.Pod.UID
		s.unpromise(p)
		last := len(p.Victims) - 1
		err := s.askAll(p, p.Victims[:last])
		p.Finish()
		s.queue.Recheck(uid)
		if err == nil {
			err = s.ask(p, p.Victims[last])
		}
		if err != nil {
			klog.ErrorS(err, "Could not make room for a pod, will try again", "pod", klog.KObj(p.For.Pod), "node", p.Node)
			s.queue.Retry(uid)
		}
	})
}

// unpromise takes back the promise of the node to Pods of lower priority: it is no longer theirs.
func (s *Scheduler) unpromise(p plugins.Preemption) {
	for _, other := range s.nominated.On(p.Node) {
		if other.Priority < p.For.Priority {
			s.nominated.Remove(other.Pod.UID)
			s.statuses.clearNomination(other.Pod)
			s.queue.Retry(other.Pod.UID)
		}
	}
}

func (s *Scheduler) askAll(p plugins.Preemption, victims []*framework.PodInfo) error {
	var mu sync.Mutex
	var first error
	var all sync.WaitGroup
	slots := make(chan struct{}, victimsAtOnce)
	for _, v := range victims {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := s.ask(p, v); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = err
			}
		})
	}
	all.Wait()
	return first
}

// ask has a victim deleted, with its grace period, and says why in its status and by an event.
func (s *Scheduler) ask(p plugins.Preemption, victim *framework.PodInfo) error {
	ctx := context.Background() // what was begun is carried through, also when the scheduler ends
	pod := victim.Pod
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
			LastTransitionTime: metav1.NewTime(s.clock.Now()), Reason: corev1.PodReasonPreemptionByScheduler,
			Message: p.For.Pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod",
		}}},
	})
	if err != nil {
		return fmt.Errorf("write the status patch of pod %s: %w", victim.Name(), err)
	}
	pods := s.client.CoreV1().Pods(pod.Namespace)
	_, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err == nil {
		err = pods.Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	}
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return nil // it is gone already, or another has its name
	case err != nil:
		return fmt.Errorf("preempt pod %s: %w", victim.Name(), err)
	}
	klog.V(2).InfoS("Preempted a pod", "pod", klog.KObj(pod), "for", klog.KObj(p.For.Pod), "node", p.Node)
	s.recorder.Eventf(pod, p.For.Pod, corev1.EventTypeNormal, "Preempted", "Preempting", "Preempted by pod %s on node %s", p.For.Pod.UID, p.Node)
	return nil
}
