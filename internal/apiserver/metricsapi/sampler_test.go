package metricsapi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

var start = time.Unix(1_700_000_000, 0)

// source is a node that uses a whole core.
type source struct {
	clock *testingclock.FakeClock
	asked chan struct{}
}

func (s *source) fetch(context.Context, string) (reading, error) {
	now := s.clock.Now()
	r := reading{at: now, node: counters{at: now, cpu: now.Sub(start).Seconds(), memory: 1 << 20, hasCPU: true, hasMemory: true}}
	s.asked <- struct{}{}
	return r, nil
}

func TestSampler(t *testing.T) {
	src := &source{clock: testingclock.NewFakeClock(start.Add(time.Hour)), asked: make(chan struct{}, 100)}
	s := newSampler(src.fetch, src.clock)
	asked := func() int {
		n := len(src.asked)
		for range n {
			<-src.asked
		}
		return n
	}
	first := make(chan window)
	go func() {
		w, err := s.window(t.Context(), "n")
		if err != nil {
			t.Error(err)
		}
		first <- w
	}()
	<-src.asked
	waitFor(t, "it waits for the second reading", src.clock.HasWaiters)
	src.clock.Step(shortest)
	w := <-first
	if d := w.new.at.Sub(w.old.at); d != shortest || asked() != 1 {
		t.Errorf("the first window is %v", d)
	}
	for _, tc := range []struct {
		later, window time.Duration
		asked         int
	}{
		{2 * time.Second, 2 * time.Second, 1},
		{0, 2 * time.Second, 0}, // the same again
		{shortest - 1, 2 * time.Second, 0},
		{1, shortest, 1},
		{700 * time.Millisecond, 700 * time.Millisecond, 1},
		{30 * time.Second, 30 * time.Second, 1},
	} {
		src.clock.Step(tc.later)
		w, err := s.window(t.Context(), "n")
		if d := w.new.at.Sub(w.old.at); err != nil || d != tc.window || asked() != tc.asked {
			t.Errorf("%v later: a window of %v, want %v (%v)", tc.later, d, tc.window, err)
		}
		if u, ok := w.new.node.since(w.old.node); !ok || u.nanoCores < 999_999_000 || u.nanoCores > 1_000_001_000 || u.memory != 1<<20 {
			t.Errorf("%v later: use %+v", tc.later, u)
		}
	}
	src.clock.Step(longest)
	waitFor(t, "nothing is kept when nobody asks", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.kept) == 0
	})
	if src.clock.HasWaiters() {
		t.Error("something waits though nobody asks")
	}
}

func TestSamplerError(t *testing.T) {
	clk := testingclock.NewFakeClock(start)
	s := newSampler(func(context.Context, string) (reading, error) { return reading{}, errors.New("no way") }, clk)
	if _, err := s.ask(t.Context(), []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), "ask node a what is used: no way") {
		t.Errorf("no node answers: %v", err)
	}
	if found, err := s.ask(t.Context(), nil); err != nil || len(found) != 0 {
		t.Errorf("no node is asked: %v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hangs := make(chan struct{})
	defer close(hangs)
	s = newSampler(func(context.Context, string) (reading, error) { <-hangs; return reading{}, nil }, clk)
	if _, err := s.window(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("who asked is gone: %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSince(t *testing.T) {
	at := func(seconds, cpu float64) counters {
		return counters{at: start.Add(time.Duration(seconds * 1e9)), cpu: cpu, memory: 7, hasCPU: true, hasMemory: true}
	}
	began := func(c counters, seconds float64) counters {
		c.start = start.Add(time.Duration(seconds * 1e9))
		return c
	}
	for name, tc := range map[string]struct {
		old, now counters
		nano     int64
		window   time.Duration
		ok       bool
	}{
		"a rate":           {at(0, 1), at(2, 2), 5e8, 2 * time.Second, true},
		"no time passed":   {at(1, 1), at(1, 1), 0, 0, false},
		"new, start known": {counters{}, began(at(3, 1), 1), 5e8, 2 * time.Second, true},
		"new, not known":   {counters{}, at(3, 1), 0, 0, false},
		"started again":    {began(at(1, 5), 0), began(at(5, 6), 3), 3e9, 2 * time.Second, true},
		"counts again":     {at(1, 5), began(at(5, 1), 1), 25e7, 4 * time.Second, true},
		"no cpu":           {at(0, 1), counters{hasMemory: true}, 0, 0, false},
	} {
		u, ok := tc.now.since(tc.old)
		if ok != tc.ok || u.nanoCores != tc.nano || u.window != tc.window || ok && u.memory != 7 {
			t.Errorf("%s: %+v, %v", name, u, ok)
		}
	}
}
