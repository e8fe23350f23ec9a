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

// victimsAtOnce bounds the victims of one preemption that are deleted concurrently.
const victimsAtOnce = 16

// preempt carries out a preemption in the background. The Pod may be decided on again just before the last
// victim is deleted, so that the Pod is already waiting when that victim ends. If something fails, the Pod is
// tried again.
func (s *Scheduler) preempt(p plugins.Preemption) {
	s.background.Go(func() {
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
			s.logger.Error(err, "Failed to make room for pod, will retry", "pod", klog.KObj(p.For.Pod), "node", p.Node)
			s.queue.Retry(uid)
		}
	})
}

// unpromise takes the nomination of the node from Pods of lower priority.
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

// ask deletes a victim with its grace period, and records the reason in its status and in an event.
func (s *Scheduler) ask(p plugins.Preemption, victim *framework.PodInfo) error {
	ctx := context.Background() // what was begun is finished, even if the scheduler ends
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
		return fmt.Errorf("encode the status patch of pod %s: %w", victim.Name(), err)
	}
	pods := s.client.CoreV1().Pods(pod.Namespace)
	_, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err == nil {
		err = pods.Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	}
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return nil // already deleted, or another Pod has its name
	case err != nil:
		return fmt.Errorf("preempt pod %s: %w", victim.Name(), err)
	}
	s.logger.V(2).Info("Preempted pod", "pod", klog.KObj(pod), "for", klog.KObj(p.For.Pod), "node", p.Node)
	s.recorder.Eventf(pod, p.For.Pod, corev1.EventTypeNormal, "Preempted", "Preempting", "Preempted by pod %s on node %s", p.For.Pod.UID, p.Node)
	return nil
}
