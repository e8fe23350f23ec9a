package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/scheduler/framework"
)

type fixture struct {
	*testing.T
	*Queue
	clock *clocktesting.FakeClock
	gated map[types.UID]bool
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, clock: clocktesting.NewFakeClock(time.Unix(1000, 0)), gated: map[types.UID]bool{}}
	f.Queue = New(Config{
		Clock: f.clock,
		Less: func(a, b framework.Waiting) bool {
			if a.Pod.Priority != b.Pod.Priority {
				return a.Pod.Priority > b.Pod.Priority
			}
			return a.Since.Before(b.Since)
		},
		Gate: func(p *framework.PodInfo) *framework.Status {
			if f.gated[p.Pod.UID] {
				return framework.RefuseForGood("gate", "held")
			}
			return nil
		},
	})
	return f
}

func pod(name string, priority int32) *framework.PodInfo {
	return framework.NewPodInfo(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{Priority: &priority},
	})
}

func (f *fixture) add(name string, priority int32) {
	f.Add(pod(name, priority), framework.Event{Kinds: framework.OwnSpec})
	f.clock.Step(time.Millisecond)
}

// pops takes the next Pod, which must have the given name.
func (f *fixture) pops(name string) *Item {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	item := f.Pop(ctx)
	if item == nil || item.Pod.Pod.Name != name {
		f.Fatalf("popped %v, want %s", describe(item), name)
	}
	return item
}

func describe(item *Item) string {
	if item == nil {
		return "nothing"
	}
	return item.Pod.Pod.Name
}

// empty checks that no Pod is ready.
func (f *fixture) empty() {
	f.Helper()
	if item, _ := f.next(); item != nil {
		f.Fatalf("%s is ready", item.Pod.Pod.Name)
	}
}

var onNodeAdd = []framework.Hint{{Kinds: framework.NodeAdd}}

func nodeAdd() framework.Event { return framework.Event{Kinds: framework.NodeAdd} }

func TestOrder(t *testing.T) {
	f := newFixture(t)
	f.add("low-1", 1)
	f.add("high-1", 9)
	f.add("low-2", 1)
	f.add("high-2", 9)
	for _, want := range []string{"high-1", "high-2", "low-1", "low-2"} {
		f.Done(f.pops(want))
	}
	f.empty()
}

func TestPopWaits(t *testing.T) {
	f := newFixture(t)
	got := make(chan *Item)
	go func() { got <- f.Pop(context.Background()) }()
	f.Add(pod("a", 0), framework.Event{})
	if item := <-got; item.Pod.Pod.Name != "a" || item.Attempts != 1 {
		t.Errorf("popped %+v", item)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { got <- f.Pop(ctx) }()
	cancel()
	if item := <-got; item != nil {
		t.Errorf("popped %+v after the end", item)
	}
}

func TestOnlyEventsThatHelpWake(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	f.Refused(f.pops("a"), []framework.Hint{
		{Kinds: framework.NodeAdd, Helps: func(_ *framework.PodInfo, e framework.Event) bool { return e.New == "large" }},
		{Kinds: framework.NodeTaints},
	})
	f.Event(framework.Event{Kinds: framework.PodGone})
	f.Event(framework.Event{Kinds: framework.NodeAdd, New: "small"})
	f.empty()
	f.Event(framework.Event{Kinds: framework.NodeAdd, New: "large"})
	f.Refused(f.pops("a"), onNodeAdd)
	f.empty()
}

func TestEventDuringDecisionCounts(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	item := f.pops("a")
	f.Event(nodeAdd())
	f.Refused(item, onNodeAdd)
	f.pops("a")
}

func TestEventBeforeDecisionDoesNot(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	f.Event(nodeAdd())
	f.Refused(f.pops("a"), onNodeAdd)
	f.empty()
}

func TestBackoffGrowsAndGivesWay(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		f.Refused(f.pops("a"), onNodeAdd)
		f.Event(nodeAdd())
		f.add("other", 0)
		other := f.pops("other") // ready before one in back-off
		f.Done(other)
		item := f.items["a"]
		if got := item.until.Sub(item.since); got != pause*time.Second {
			t.Fatalf("back-off %v, want %v s", got, int64(pause))
		}
	}
	f.pops("a") // nothing else waits, so the back-off is skipped
}

func TestBackoffOverTakesItsTurn(t *testing.T) {
	f := newFixture(t)
	f.add("high", 9)
	f.Refused(f.pops("high"), onNodeAdd)
	f.Event(nodeAdd())
	f.add("low", 1)
	f.clock.Step(time.Second)
	f.pops("high")
	f.pops("low")
}

func TestFailureWaitsForItsBackoff(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	item := f.pops("a")
	f.Done(item)
	f.Failed(item) // the binding failed
	f.empty()
	f.Event(nodeAdd())
	f.empty()
	f.clock.Step(time.Second)
	f.pops("a")
}

func TestPopWakesByTheClock(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	f.Failed(f.pops("a"))
	got := make(chan *Item)
	go func() { got <- f.Pop(context.Background()) }()
	for deadline := time.Now().Add(5 * time.Second); !f.clock.HasWaiters(); {
		if time.Now().After(deadline) {
			t.Fatal("Pop does not wait for the back-off")
		}
	}
	f.clock.Step(time.Second)
	if item := <-got; item.Pod.Pod.Name != "a" {
		t.Errorf("popped %s", item.Pod.Pod.Name)
	}
}

func TestLongStayIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.add("a", 0)
	f.Refused(f.pops("a"), onNodeAdd)
	f.clock.Step(longestStay - time.Second)
	f.empty()
	f.clock.Step(time.Second)
	f.pops("a")
}

func TestGate(t *testing.T) {
	f := newFixture(t)
	f.gated["a"] = true
	f.add("a", 0)
	f.Event(nodeAdd())
	f.clock.Step(longestStay)
	f.empty()
	delete(f.gated, "a")
	f.Add(pod("a", 0), framework.Event{Kinds: framework.OwnGates})
	f.pops("a")
}

func TestGateClosedAfterRefusal(t *testing.T) {
	for _, helped := range []bool{false, true} {
		f := newFixture(t)
		f.add("a", 0)
		f.Refused(f.pops("a"), onNodeAdd)
		f.gated["a"] = true
		f.Event(framework.Event{Kinds: framework.ForceRetry})
		f.empty() // held back by the gate
		delete(f.gated, "a")
		f.Recheck("a")
		f.Refused(f.pops("a"), onNodeAdd)
		f.gated["a"] = true
		if helped {
			f.Event(nodeAdd())
		}
		delete(f.gated, "a")
		f.Recheck("a")
		if item, _ := f.next(); (item != nil) != helped {
			t.Errorf("helped %v: popped %s", helped, describe(item))
		}
	}
}

func TestDelete(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"active", "pool", "backoff", "deciding", "failed"} {
		f.add(name, 0)
	}
	f.Delete("active")
	f.Refused(f.pops("pool"), onNodeAdd)
	f.Delete("pool")
	f.Failed(f.pops("backoff"))
	f.Delete("backoff")
	deciding := f.pops("deciding")
	f.Delete("deciding")
	f.Refused(deciding, onNodeAdd)
	failed := f.pops("failed")
	f.Delete("failed")
	f.Failed(failed)
	f.Event(framework.Event{Kinds: framework.ForceRetry})
	f.clock.Step(time.Hour)
	f.empty()
	if len(f.items) != 0 {
		t.Errorf("left: %v", f.items)
	}
}

func TestUpdateWhileWaiting(t *testing.T) {
	f := newFixture(t)
	f.add("a", 1)
	f.add("b", 2)
	f.Add(pod("a", 3), framework.Event{Kinds: framework.OwnSpec})
	item := f.pops("a")
	f.Add(pod("a", 4), framework.Event{Kinds: framework.OwnTolerations})
	f.Refused(item, []framework.Hint{{Kinds: framework.OwnTolerations}})
	f.Done(f.pops("b"))
	if item := f.pops("a"); item.Pod.Priority != 4 {
		t.Errorf("decided on an old state: %d", item.Pod.Priority)
	}
}

func TestNominated(t *testing.T) {
	n := NewNominated()
	a, b := pod("a", 0), pod("b", 0)
	n.Set(a, "x")
	n.Set(b, "x")
	n.Set(a, "y")
	names := func(node string) string {
		out := ""
		for _, p := range n.On(node) {
			out += p.Pod.Name
		}
		return out
	}
	if got := fmt.Sprint(names("x"), names("y"), n.NodeOf("a")); got != "b a y" && got != "bay" {
		t.Errorf("got %q", got)
	}
	n.Remove("a")
	n.Set(b, "")
	if n.any.Load() || len(n.byNode)+len(n.nodeOf) != 0 {
		t.Errorf("left %v", n.byNode)
	}
}
