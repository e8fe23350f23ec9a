package podgc

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/controller/sources"
)

// start runs the controller against a fake API until the test ends.
func start(t *testing.T, threshold int, pods ...*corev1.Pod) (*fake.Clientset, *clocktesting.FakeClock) {
	t.Helper()
	client := fake.NewClientset()
	for _, p := range pods {
		p.Namespace = "s"
		if _, err := client.CoreV1().Pods("s").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c := clocktesting.NewFakeClock(time.Unix(10000, 0))
	src := sources.New(client)
	k := New(client, src, c, threshold)
	ctx, cancel := context.WithCancel(context.Background())
	src.Start(ctx)
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; src.Wait() })
	return client, c
}

func left(t *testing.T, client *fake.Clientset, want ...string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var got []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-tick.C {
		list, err := client.CoreV1().Pods("s").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		for _, p := range list.Items {
			got = append(got, p.Name)
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
	}
	t.Fatalf("left %v, want %v", got, want)
}

func TestPodsOfAGoneNodeGoAfterTheQuarantine(t *testing.T) {
	client, c := start(t, 0,
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.PodSpec{NodeName: "gone"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	for deadline := time.Now().Add(5 * time.Second); !c.HasWaiters(); {
		if time.Now().After(deadline) {
			t.Fatal("nothing waits for the node")
		}
	}
	left(t, client, "a", "b")
	c.Step(quarantine)
	left(t, client, "b")
}

func TestOldestEndedPodsGo(t *testing.T) {
	ended := func(name string, age time.Duration, reason string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(10000, 0).Add(-age))},
			Status:     corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason},
		}
	}
	client, _ := start(t, 2,
		ended("evicted", time.Second, "Evicted"), ended("old", time.Hour, ""), ended("new", time.Minute, ""), ended("newer", time.Second, ""),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "running"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
	left(t, client, "new", "newer", "running")
}
