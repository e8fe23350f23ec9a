// Package podtest makes the Pods that the tests of controllers decide about.
package podtest

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Now is the present of the tests.
var Now = time.Unix(1_000_000, 0)

// New returns a Pod with the label app=x that has been running and ready for an hour on the node n1, with changes.
func New(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	hourAgo := metav1.NewTime(Now.Add(-time.Hour))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"app": "x"}, CreationTimestamp: hourAgo},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: hourAgo,
		}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// ReadyFor returns a change to a Pod that has been ready for d.
func ReadyFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(Now.Add(-d)) }
}

// Unready is a change to a Pod that is not ready.
func Unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

// Ended is a change to a Pod that has succeeded.
func Ended(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

// Deleted is a change to a Pod that is being deleted.
func Deleted(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: Now} }
