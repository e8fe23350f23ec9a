package scheduler_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/apitest"
	"podium.dev/podium/internal/scheduler/election"
)

// mute is a connection on which nobody answers a question about the namespaces.
type mute struct {
	next  http.RoundTripper
	once  sync.Once
	asked chan struct{}
}

func (m *mute) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/namespaces") {
		return m.next.RoundTrip(r)
	}
	m.once.Do(func() { close(m.asked) })
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestTermEndsWithinADecision ends a leader's term while a decision waits for the labels of the namespaces. Without
// them the Pod seems to fit; it must not be bound.
func TestTermEndsWithinADecision(t *testing.T) {
	w := &world{T: t, client: connect(t), ctx: t.Context()}
	w.makeNamespace()
	node := w.node("n", "2", "1Gi")
	w.pod("there", func(p *corev1.Pod) { p.Labels, p.Spec.NodeName = map[string]string{"app": "there"}, node.Name })
	w.pod("apart", func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey:       corev1.LabelHostname,
			LabelSelector:     &metav1.LabelSelector{MatchLabels: map[string]string{"app": "there"}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.ns}},
		}}}}
	})
	wire := &mute{asked: make(chan struct{})}
	cfg := rest.CopyConfig(apitest.Config(t))
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { wire.next = next; return wire })
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := scheduler.New(client, scheduler.Options{Election: &election.Config{
		Identity: "mute", Namespace: w.ns, Name: "scheduler",
		LeaseDuration: 30 * time.Second, RenewDeadline: 20 * time.Second, RetryPeriod: time.Second,
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-wire.asked:
	case <-time.After(time.Minute):
		t.Error("the scheduler did not ask for the namespaces")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	pod, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, "apart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Spec.NodeName != "" {
		t.Errorf("bound to %s, beside the Pod that it keeps away from", pod.Spec.NodeName)
	}
}
