package disruption

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestExpectation(t *testing.T) {
	number := func(n int32) *intstr.IntOrString { v := intstr.FromInt32(n); return &v }
	share := func(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }
	tests := []struct {
		name              string
		spec              policyv1.PodDisruptionBudgetSpec
		pods, scale       int
		expected, desired int32
	}{
		{"min, number", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(2)}, 3, 0, 3, 2},
		{"min, share, rounded up", policyv1.PodDisruptionBudgetSpec{MinAvailable: share("50%")}, 3, 5, 5, 3},
		{"max, number", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, 3, 5, 5, 4},
		{"max, share, rounded up", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: share("30%")}, 3, 5, 5, 3},
		{"max beyond all", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(9)}, 3, 5, 5, 0},
		{"neither", policyv1.PodDisruptionBudgetSpec{}, 3, 5, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expected, desired, err := expectation(&policyv1.PodDisruptionBudget{Spec: tt.spec}, tt.pods, tt.scale)
			if err != nil || expected != tt.expected || desired != tt.desired {
				t.Errorf("got %d %d %v", expected, desired, err)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	now := time.Unix(10000, 0)
	ready := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	}
	deleted := ready("deleted")
	at := metav1.NewTime(now)
	deleted.DeletionTimestamp = &at
	pods := []*corev1.Pod{ready("a"), ready("leaving"), ready("late"), deleted, {ObjectMeta: metav1.ObjectMeta{Name: "unready"}}}
	granted := map[string]metav1.Time{
		"leaving": metav1.NewTime(now.Add(-time.Minute)),
		"late":    metav1.NewTime(now.Add(-3 * time.Minute)),
		"deleted": metav1.NewTime(now.Add(-time.Minute)),
		"gone":    metav1.NewTime(now),
	}
	left, again, late := underWay(granted, pods, now)
	if len(left) != 1 || again != time.Minute || len(late) != 1 || late[0].Name != "late" {
		t.Fatalf("under way: %v %v %v", left, again, late)
	}
	if n := healthy(pods, left); n != 2 {
		t.Fatalf("healthy: %d", n)
	}
	pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	got := statusOf(pdb, 2, 1, 5, left, now)
	if got.DisruptionsAllowed != 1 || got.ObservedGeneration != 3 || got.Conditions[0].Reason != "SufficientPods" {
		t.Errorf("status %+v", got)
	}
	if got := statusOf(pdb, 2, 0, 0, left, now); got.DisruptionsAllowed != 0 || got.Conditions[0].Reason != "InsufficientPods" {
		t.Errorf("nothing expected: %+v", got)
	}
	if got := failedStatus(pdb, errors.New("no"), now); got.DisruptionsAllowed != 0 || got.Conditions[0].Reason != "SyncFailed" {
		t.Errorf("failed: %+v", got)
	}
}
