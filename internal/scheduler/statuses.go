package scheduler

import (
	"context"
	"encoding/json"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// statusChange is what a decision without a node changes in the Pod's status.
type statusChange struct {
	reason, message string // an empty reason leaves the condition as it is
	// nominated is the node that the Pod is nominated to, or "" to remove the nomination. Nil leaves it as it
	// is.
	nominated *string
}

// after returns one change that has the effect of earlier followed by c.
func (c statusChange) after(earlier statusChange) statusChange {
	if c.reason == "" {
		c.reason, c.message = earlier.reason, earlier.message
	}
	if c.nominated == nil {
		c.nominated = earlier.nominated
	}
	return c
}

// statuses writes changes in the background. Changes of one Pod are written in order; those that wait are
// combined.
type statuses struct {
	logger     klog.Logger
	client     kubernetes.Interface
	clock      clock.Clock
	slots      chan struct{}
	background sync.WaitGroup

	mu      sync.Mutex
	waiting map[types.UID]*waitingChange
}

// waitingChange is the next change of a Pod for which a goroutine is at work.
type waitingChange struct {
	pod    *corev1.Pod
	change statusChange
	due    bool
}

func newStatuses(client kubernetes.Interface, c clock.Clock, atOnce int) *statuses {
	return &statuses{logger: klog.Background(), client: client, clock: c, slots: make(chan struct{}, atOnce), waiting: map[types.UID]*waitingChange{}}
}

// write writes the change, unless the Pod already has it.
func (w *statuses) write(pod *corev1.Pod, change statusChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next := w.waiting[pod.UID]; next != nil {
		if next.due {
			change = change.after(next.change)
		}
		next.pod, next.change, next.due = pod, change, true
		return
	}
	next := &waitingChange{pod: pod, change: change, due: true}
	w.waiting[pod.UID] = next
	w.background.Go(func() { w.drain(pod.UID, next) })
}

// clearNomination removes the nominated node from the Pod's status.
func (w *statuses) clearNomination(pod *corev1.Pod) {
	w.write(pod, statusChange{nominated: new(string)})
}

// drain writes the waiting changes of one Pod until there are none.
func (w *statuses) drain(uid types.UID, next *waitingChange) {
	w.slots <- struct{}{}
	defer func() { <-w.slots }()
	for {
		w.mu.Lock()
		if !next.due {
			delete(w.waiting, uid)
			w.mu.Unlock()
			return
		}
		pod, change := next.pod, next.change
		next.due = false
		w.mu.Unlock()
		if body := w.patch(pod, change); body != nil {
			w.send(pod, body)
		}
	}
}

func (w *statuses) send(pod *corev1.Pod, body []byte) {
	// Not bound to the decisions' context: a pending message is still sent when the scheduler ends.
	_, err := w.client.CoreV1().Pods(pod.Namespace).Patch(context.Background(), pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		w.logger.Error(err, "Failed to write the status of an unscheduled pod, the next decision will retry", "pod", klog.KObj(pod))
	}
}

// patch returns the patch for the change, or nil if it would change nothing.
func (w *statuses) patch(pod *corev1.Pod, change statusChange) []byte {
	c := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, ObservedGeneration: pod.Generation,
		Reason: change.reason, Message: change.message, LastTransitionTime: metav1.NewTime(w.clock.Now()),
	}
	status := map[string]any{}
	have := condition(pod, corev1.PodScheduled)
	switch {
	case change.reason == "":
	case have == nil || have.Status != c.Status:
		status["conditions"] = []corev1.PodCondition{c}
	case have.Reason != c.Reason || have.Message != c.Message || have.ObservedGeneration != c.ObservedGeneration:
		c.LastTransitionTime = have.LastTransitionTime
		status["conditions"] = []corev1.PodCondition{c}
	}
	if change.nominated != nil && *change.nominated != pod.Status.NominatedNodeName {
		status["nominatedNodeName"] = *change.nominated
		if *change.nominated == "" {
			status["nominatedNodeName"] = nil
		}
	}
	if len(status) == 0 {
		return nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		w.logger.Error(err, "Failed to encode the patch of a pod's status", "pod", klog.KObj(pod))
		return nil
	}
	return body
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// wait waits for the writes in progress.
func (w *statuses) wait() { w.background.Wait() }
