package scheduler_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
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

// deaf is a connection on which the first binding gets no answer within the caller's time. If made is set, the
// server makes the binding all the same.
type deaf struct {
	next http.RoundTripper
	made bool
	lost atomic.Bool
}

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/binding") || d.lost.Swap(true) {
		return d.next.RoundTrip(r)
	}
	if d.made {
		answer, err := d.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_ = answer.Body.Close()
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestUnansweredBinding loses the answer to a leader's binding. The Pod must get its node all the same, and keep
// the room there: it leaves none for a second Pod.
func TestUnansweredBinding(t *testing.T) {
	for name, made := range map[string]bool{"not made": false, "made": true} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, client: connect(t), ctx: t.Context()}
			w.makeNamespace()
			w.node("n", "2", "1Gi")
			w.pod("first", requests("1500m", "1Mi"))
			wire := &deaf{made: made}
			cfg := rest.CopyConfig(apitest.Config(t))
			cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { wire.next = next; return wire })
			client, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				t.Fatal(err)
			}
			s := scheduler.New(client, scheduler.Options{Election: &election.Config{
				Identity: "deaf", Namespace: w.ns, Name: "scheduler",
				LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 50 * time.Millisecond,
			}})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			if got := w.placed("first"); got != "n" {
				t.Errorf("on %q", got)
			}
			if !wire.lost.Load() {
				t.Error("no answer was lost")
			}
			second := w.pod("second", requests("1", "1Mi"))
			w.refused("second")
			if err := w.client.CoreV1().Pods(w.ns).Delete(w.ctx, "first", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
			w.placed(second.Name)
			list, err := w.client.CoreV1().Events(w.ns).List(w.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=first,type=" + corev1.EventTypeWarning})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list.Items {
				t.Errorf("event %s: %s", e.Reason, e.Message)
			}
		})
	}
}
