package election

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"podium.dev/podium/internal/scheduler/apitest"
)

func TestMain(m *testing.M) { apitest.Main(m) }

func config(client kubernetes.Interface, who string) Config {
	return Config{
		Client: client, Identity: who, Namespace: "default", Name: "l",
		LeaseDuration: 300 * time.Millisecond, RenewDeadline: 150 * time.Millisecond, RetryPeriod: 10 * time.Millisecond,
	}
}

func TestOneLeadsAtATime(t *testing.T) {
	client, err := kubernetes.NewForConfig(apitest.Config(t)) // unlike a fake, it lets only one of two concurrent writers win
	if err != nil {
		t.Fatal(err)
	}
	var leading, turns atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error)
	for i := range 5 {
		go func() {
			done <- Run(ctx, config(client, fmt.Sprint("e", i)), func(ctx context.Context) error {
				if n := leading.Add(1); n != 1 {
					return fmt.Errorf("%d lead at a time", n)
				}
				defer leading.Add(-1)
				if turns.Add(1) == 10 {
					cancel()
				}
				select { // a short turn
				case <-ctx.Done():
				case <-time.After(15 * time.Millisecond):
				}
				return nil
			})
		}()
	}
	for range 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if turns.Load() < 10 {
		t.Errorf("%d turns", turns.Load())
	}
}

func TestStopsWhenTheLeaseCannotBeRenewed(t *testing.T) {
	client := fake.NewClientset()
	var cut atomic.Bool
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return cut.Load(), nil, errors.New("cut off")
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began, lost := make(chan struct{}, 1), make(chan struct{}, 1)
	done := make(chan error)
	go func() {
		done <- Run(ctx, config(client, "e"), func(ctx context.Context) error {
			began <- struct{}{}
			<-ctx.Done()
			lost <- struct{}{}
			return nil
		})
	}()
	<-began
	cut.Store(true)
	<-lost
	cut.Store(false)
	<-began // it leads again when it can
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTakesOverFromASilentLeader(t *testing.T) {
	client := fake.NewClientset()
	old := &elector{Config: config(client, "old")}
	old.complete()
	if held, err := old.try(t.Context()); !held || err != nil {
		t.Fatal(held, err)
	}
	start := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	err := Run(ctx, config(client, "new"), func(context.Context) error { cancel(); return nil })
	if took := time.Since(start); err != nil || took < 300*time.Millisecond {
		t.Errorf("took over after %v: %v", took, err)
	}
	if held, err := old.try(t.Context()); !held || err != nil { // it was released
		t.Errorf("the lease was not given back: %v %v", held, err)
	}
}

func TestMayTake(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	held := func(who string, renewed int) coordv1.LeaseSpec {
		r := metav1.NewMicroTime(at(renewed))
		return coordv1.LeaseSpec{HolderIdentity: &who, RenewTime: &r}
	}
	type look struct {
		lease       coordv1.LeaseSpec
		asked, read int // ms
		want        bool
	}
	for _, test := range []struct {
		name  string
		lost  bool
		looks []look
	}{
		{"nobody's", false, []look{{coordv1.LeaseSpec{}, 0, 1, true}}},
		{"its own", false, []look{{held("e", 0), 10, 11, true}}},
		{"its own, which it could not renew", true, []look{{held("e", 0), 10, 11, false}, {held("e", 0), 311, 312, false}, {held("e", 0), 312, 313, true}}},
		{"a silent one's", false, []look{{held("other", 0), 10, 11, false}, {held("other", 0), 311, 312, false}, {held("other", 0), 312, 313, true}}},
		{"a busy one's", false, []look{{held("other", 0), 10, 11, false}, {held("other", 250), 312, 313, false}}},
		// The server took its time: the lease was renewed while it did.
		{"seen by a slow read", false, []look{{held("other", 250), 0, 260, false}, {held("other", 250), 400, 401, false}, {held("other", 250), 561, 562, true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &elector{Config: config(nil, "e"), lost: test.lost}
			for _, l := range test.looks {
				if got := e.mayTake(l.lease, at(l.asked), at(l.read)); got != l.want {
					t.Errorf("asked at %d ms: %v", l.asked, got)
				}
			}
		})
	}
}
