// Package podstatus writes single conditions and phases into the status of a Pod, for the controllers that end
// Pods or mark them as not ready.
package podstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/podutil"
)

// patch is the part of a Pod that a change sets. Conditions are merged by type.
type patch struct {
	Metadata struct {
		UID types.UID `json:"uid"`
	} `json:"metadata"`
	Status change `json:"status"`
}

type change struct {
	Phase              corev1.PodPhase       `json:"phase,omitempty"`
	ObservedGeneration int64                 `json:"observedGeneration,omitempty"`
	Conditions         []corev1.PodCondition `json:"conditions,omitempty"`
}

// Disrupted returns a DisruptionTarget condition for the Pod with status True.
func Disrupted(pod *corev1.Pod, reason, message string) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		ObservedGeneration: pod.Generation, Reason: reason, Message: message,
	}
}

// SetCondition writes the condition. Its transition time is now if the status differs from the Pod's, and is
// kept otherwise. If nothing differs, nothing is written.
func SetCondition(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, c corev1.PodCondition, now time.Time) error {
	if !stamp(pod, &c, now) {
		return nil
	}
	return send(ctx, client, pod, change{Conditions: []corev1.PodCondition{c}})
}

// Fail writes the phase Failed and the conditions. A Pod that has already ended is left unchanged.
func Fail(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, now time.Time, conditions ...corev1.PodCondition) error {
	if podutil.Ended(pod) {
		return nil
	}
	for i := range conditions {
		stamp(pod, &conditions[i], now)
	}
	return send(ctx, client, pod, change{Phase: corev1.PodFailed, ObservedGeneration: pod.Generation, Conditions: conditions})
}

// stamp sets the transition time of a condition, and reports whether the condition changes anything.
func stamp(pod *corev1.Pod, c *corev1.PodCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	have := podutil.Condition(pod, c.Type)
	if have == nil {
		return true
	}
	if have.Status == c.Status {
		c.LastTransitionTime = have.LastTransitionTime
	}
	return have.Status != c.Status || have.Reason != c.Reason || have.Message != c.Message ||
		have.ObservedGeneration != c.ObservedGeneration
}

// send patches the status of exactly this Pod. Another Pod that has its name by now is not touched.
func send(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, c change) error {
	p := patch{Status: c}
	p.Metadata.UID = pod.UID
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the status patch of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
