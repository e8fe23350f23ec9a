package loop

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
)

// start runs a loop with a scripted sync until the test ends.
func start(t *testing.T, workers int, sync Sync[string]) (*Loop[string], *clocktesting.FakeClock) {
	t.Helper()
	c := clocktesting.NewFakeClock(time.Unix(1000, 0))
	l := New("test", c, workers, sync)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return l, c
}

// awaitTimer waits until the loop sleeps on a timer.
func awaitTimer(t *testing.T, c *clocktesting.FakeClock) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !c.HasWaiters(); {
		if time.Now().After(deadline) {
			t.Fatal("the loop never waited")
		}
	}
}

func TestKeyAddedWhileWorkedOnRunsAgainButNotAtTheSameTime(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	l, _ := start(t, 4, func(context.Context, string) (time.Duration, error) {
		started <- struct{}{}
		<-release
		return 0, nil
	})
	l.Add("a")
	<-started
	l.Add("a")
	l.Add("a")
	select {
	case <-started:
		t.Fatal("the key was worked on twice at a time")
	case <-time.After(20 * time.Millisecond):
	}
	release <- struct{}{}
	<-started
	release <- struct{}{}
	select {
	case <-started:
		t.Fatal("adds while waiting must count once")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestWorkersBound(t *testing.T) {
	started, release := make(chan string, 8), make(chan struct{})
	l, _ := start(t, 2, func(_ context.Context, key string) (time.Duration, error) {
		started <- key
		<-release
		return 0, nil
	})
	for _, key := range []string{"a", "b", "c"} {
		l.Add(key)
	}
	<-started
	<-started
	select {
	case key := <-started:
		t.Fatalf("%s started beyond the bound", key)
	case <-time.After(20 * time.Millisecond):
	}
	release <- struct{}{}
	<-started
	close(release)
}

func TestFailureIsTriedAgainWithGrowingPauses(t *testing.T) {
	calls := make(chan time.Time)
	var c *clocktesting.FakeClock
	ready := make(chan struct{})
	l, fake := start(t, 1, func(context.Context, string) (time.Duration, error) {
		<-ready
		calls <- c.Now()
		return 0, errors.New("refused")
	})
	c = fake
	close(ready)
	l.Add("a")
	last := <-calls
	for _, pause := range []time.Duration{5, 10, 20, 40} {
		awaitTimer(t, c)
		c.Step(pause * time.Millisecond)
		at := <-calls
		if got := at.Sub(last); got != pause*time.Millisecond {
			t.Fatalf("tried again after %v, want %v ms", got, int64(pause))
		}
		last = at
	}
}

// A conflict says that the cache is behind, not that something fails: the pause does not grow.
func TestConflictIsTriedAgainSoon(t *testing.T) {
	tries := make(chan struct{})
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "a", errors.New("written by someone else"))
	l, c := start(t, 1, func(context.Context, string) (time.Duration, error) {
		tries <- struct{}{}
		return 0, fmt.Errorf("write the status: %w", conflict)
	})
	l.Add("a")
	<-tries
	for range 10 {
		awaitTimer(t, c)
		c.Step(Behind)
		<-tries
	}
}

func TestAddAfterKeepsTheEarliest(t *testing.T) {
	calls := make(chan string)
	l, c := start(t, 1, func(_ context.Context, key string) (time.Duration, error) {
		calls <- key
		return 0, nil
	})
	l.AddAfter("a", time.Minute)
	l.AddAfter("a", time.Second)
	l.AddAfter("a", time.Hour)
	awaitTimer(t, c)
	c.Step(time.Second)
	if got := <-calls; got != "a" {
		t.Fatalf("got %s", got)
	}
	c.Step(2 * time.Hour)
	select {
	case <-calls:
		t.Fatal("the key was due once only")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestAgain(t *testing.T) {
	calls := make(chan string)
	l, c := start(t, 1, func(_ context.Context, key string) (time.Duration, error) {
		calls <- key
		return time.Second, nil
	})
	l.Add("a")
	<-calls
	awaitTimer(t, c)
	c.Step(time.Second)
	<-calls
}
