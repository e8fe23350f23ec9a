package metricsapi

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"
)

const (
	// shortest and longest are bounds of the time that a rate of cpu is worked out over. The first who asks waits for
	// the shortest; who asks again gets the rate since a reading that is kept, without a wait. Within the shortest time
	// after a reading everyone gets the same: reading a node costs a millisecond for every ten Pods, and autoscalers
	// ask for each workload on its own.
	shortest = 500 * time.Millisecond
	longest  = 60 * time.Second
	// maxKept is how many readings of a node are kept: more than are made when the next is only kept once it is
	// needed.
	maxKept = 4
	// answerTimeout is how long a node has to answer.
	answerTimeout = 10 * time.Second
)

// window is two readings of a node.
type window struct{ old, new reading }

// sampler reads nodes when it is asked to. It keeps readings for as long as they can be of use: that many seconds after
// the last who asked, there are none.
type sampler struct {
	fetch  func(ctx context.Context, node string) (reading, error)
	clock  clock.WithDelayedExecution
	flight singleflight.Group

	mu   sync.Mutex
	kept map[string]*history
}

// history are the readings of a node, oldest first.
type history struct {
	readings []reading
	last     window // what was answered last
	drop     clock.Timer
}

func newSampler(fetch func(context.Context, string) (reading, error), c clock.WithDelayedExecution) *sampler {
	return &sampler{fetch: fetch, clock: c, kept: map[string]*history{}}
}

// window reads a node, and again after the shortest time when there is no reading from before. Those who ask at the
// same time get the same.
func (s *sampler) window(ctx context.Context, node string) (window, error) {
	flight := s.flight.DoChan(node, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		return s.read(ctx, node)
	})
	select {
	case <-ctx.Done():
		return window{}, ctx.Err()
	case r := <-flight:
		if r.Err != nil {
			return window{}, r.Err
		}
		return r.Val.(window), nil
	}
}

// read returns a window that ends now, or the last one when that has only just been read.
func (s *sampler) read(ctx context.Context, node string) (window, error) {
	if w, ok := s.fresh(node); ok {
		return w, nil
	}
	w, err := s.readAgain(ctx, node)
	if err != nil {
		return window{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.kept[node]; h != nil {
		h.last = w
	}
	return w, nil
}

// fresh is the last window of a node when no new one could begin where it ends.
func (s *sampler) fresh(node string) (window, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.kept[node]
	if h == nil || s.clock.Since(h.last.new.at) >= shortest {
		return window{}, false
	}
	return h.last, true
}

func (s *sampler) readAgain(ctx context.Context, node string) (window, error) {
	now, err := s.fetch(ctx, node)
	if err != nil {
		return window{}, err
	}
	if old, ok := s.before(node, now.at); ok {
		s.keep(node, now)
		return window{old, now}, nil
	}
	select {
	case <-ctx.Done():
		return window{}, ctx.Err()
	case <-s.clock.After(shortest):
	}
	later, err := s.fetch(ctx, node)
	if err != nil {
		return window{}, err
	}
	s.keep(node, now)
	s.keep(node, later)
	return window{now, later}, nil
}

// before is the newest reading of a node that is old enough.
func (s *sampler) before(node string, now time.Time) (reading, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.kept[node]
	if h == nil {
		return reading{}, false
	}
	i := h.newest(now)
	if i < 0 || now.Sub(h.readings[i].at) > longest {
		return reading{}, false
	}
	return h.readings[i], true
}

// newest is the place of the newest reading that is old enough, -1 for none.
func (h *history) newest(now time.Time) int {
	for i := len(h.readings) - 1; i >= 0; i-- {
		if now.Sub(h.readings[i].at) >= shortest {
			return i
		}
	}
	return -1
}

// keep keeps a reading, and drops those that no window will begin with any more.
func (s *sampler) keep(node string, r reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.kept[node]
	if h == nil {
		h = &history{}
		h.drop = s.clock.AfterFunc(longest, func() { s.forget(node) })
		s.kept[node] = h
	}
	h.drop.Reset(longest)
	if i := h.newest(r.at); i > 0 {
		h.readings = append([]reading(nil), h.readings[i:]...)
	}
	if len(h.readings) < maxKept {
		h.readings = append(h.readings, r)
	}
}

// forget drops what is kept of a node once nobody has asked for long.
func (s *sampler) forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, node)
}
