package replicas

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Unix(1_000_000, 0)

func newPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"app": "x"}, CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
		}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func readyFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-d)) }
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func endedP(p *corev1.Pod)  { p.Status.Phase = corev1.PodSucceeded }
func deleted(p *corev1.Pod) { at := metav1.NewTime(now); p.DeletionTimestamp = &at }

func newSet(t *testing.T, want int32, minReady int32) *set {
	t.Helper()
	s, err := fromReplicaSet(&appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "s", Generation: 4},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &want, MinReadySeconds: minReady, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x", "rev": "2"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatus(t *testing.T) {
	labeled := func(p *corev1.Pod) { p.Labels["rev"] = "2" }
	pods := []*corev1.Pod{newPod("a", labeled), newPod("b", readyFor(10*time.Second)), newPod("c", unready), newPod("d", endedP), newPod("e", deleted)}
	got, again := statusOf(newSet(t, 4, 30), pods, errors.New("no"), now)
	if got.replicas != 3 || got.labeled != 1 || got.ready != 2 || got.available != 1 || *got.terminating != 1 || got.observed != 4 {
		t.Errorf("status %+v", got)
	}
	if again != 20*time.Second {
		t.Errorf("again after %v", again)
	}
	if got.failure == nil || got.failure.reason != "FailedCreate" || got.failure.message != "no" {
		t.Errorf("failure %+v", got.failure)
	}
	if got, _ := statusOf(newSet(t, 1, 0), pods, errors.New("no"), now); got.failure.reason != "FailedDelete" || got.available != 2 {
		t.Errorf("status %+v %+v", got, got.failure)
	}
}
