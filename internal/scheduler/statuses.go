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

// statusChange is what a decision without a node writes into the Pod's status.
type statusChange struct {
	reason, message string // no reason leaves the condition as it is
	// nominated is the node promised to the Pod, "" to take a promise back; nil leaves it as it is.
	nominated *string
}

// after answers with one change that does what the earlier and then this one would.
func (c statusChange) after(earlier statusChange) statusChange {
	if c.reason == "" {
		c.reason, c.message = earlier.reason, earlier.message
	}
	if c.nominated == nil {
		c.nominated = earlier.nominated
	}
	return c
}

// statuses writes changes beside the decisions, those of one Pod in order and several that wait as one.
type statuses struct {
	client kubernetes.Interface
	clock  clock.Clock
	slots  chan struct{}
	beside sync.WaitGroup

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
	return &statuses{client: client, clock: c, slots: make(chan struct{}, atOnce), waiting: map[types.UID]*waitingChange{}}
}

// write has the change written, unless the Pod has it already.
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
	w.beside.Go(func() { w.drain(pod.UID, next) })
}

// clearNomination has the node that was promised to the Pod taken out of its status.
func (w *statuses) clearNomination(pod *corev1.Pod) {
	w.write(pod, statusChange{nominated: new(string)})
}

// drain writes what waits for one Pod until nothing does.
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
	// Not bound to the decisions' context: a message that is due is still sent when the scheduler ends.
	_, err := w.client.CoreV1().Pods(pod.Namespace).Patch(context.Background(), pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		klog.ErrorS(err, "Could not write why a pod has no node; the next decision will try again", "pod", klog.KObj(pod))
	}
}

// patch answers with the patch for the change, nil when it would change nothing.
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
		klog.ErrorS(err, "Could not write the patch of a pod's status", "pod", klog.KObj(pod))
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

// wait waits for what is under way.
func (w *statuses) wait() { w.beside.Wait() }
