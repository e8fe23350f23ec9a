package replicas

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/controller/podcontrol/podtest"
)

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
	pods := []*corev1.Pod{podtest.New("a", labeled), podtest.New("b", podtest.ReadyFor(10*time.Second)), podtest.New("c", podtest.Unready), podtest.New("d", podtest.Ended), podtest.New("e", podtest.Deleted)}
	got, again := statusOf(newSet(t, 4, 30), pods, errors.New("no"), podtest.Now)
	if got.replicas != 3 || got.labeled != 1 || got.ready != 2 || got.available != 1 || *got.terminating != 1 || got.observed != 4 {
		t.Errorf("status %+v", got)
	}
	if again != 20*time.Second {
		t.Errorf("again after %v", again)
	}
	if got.failure == nil || got.failure.reason != "FailedCreate" || got.failure.message != "no" {
		t.Errorf("failure %+v", got.failure)
	}
	if got, _ := statusOf(newSet(t, 1, 0), pods, errors.New("no"), podtest.Now); got.failure.reason != "FailedDelete" || got.available != 2 {
		t.Errorf("status %+v %+v", got, got.failure)
	}
}
