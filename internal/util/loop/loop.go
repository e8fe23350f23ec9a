// Package loop runs a level-triggered controller: a key is added whenever something about it may have changed,
// and one function makes the world match what the key now asks for.
//
// A key is queued at most once and never processed concurrently. A key that is added while it is being
// processed is processed again. A key that fails is retried with growing pauses. An idle loop is one parked
// goroutine without a timer.
package loop

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// The pauses after consecutive failures of a key: 5 ms, 10 ms, 20 ms, … up to five minutes.
const (
	firstPause = 5 * time.Millisecond
	longPause  = 5 * time.Minute
)

// Behind is the pause before a key is looked at again whose object someone else has just written: the watch is about to bring what
// was written. A sync that ends with a conflict gets it instead of a pause that grows.
const Behind = 10 * time.Millisecond

// Sync does what a key needs now. A positive duration requests another call after that time. An error causes
// one after a pause that grows with each consecutive failure, or after Behind if it is a conflict.
type Sync[K comparable] func(ctx context.Context, key K) (again time.Duration, err error)

// Loop is a queue of keys and the workers that process it. Its methods are safe for concurrent use and may be
// called before Run.
type Loop[K comparable] struct {
	name    string
	clock   clock.Clock
	workers int
	sync    Sync[K]
	wake    chan struct{}

	mu       sync.Mutex
	ready    []K
	waiting  map[K]bool // in ready, or to be put there when its run ends
	running  map[K]bool
	failures map[K]int
	later    timers[K]
}

// New returns a loop with at most workers concurrent calls of sync. The name appears in logs.
func New[K comparable](name string, c clock.Clock, workers int, sync Sync[K]) *Loop[K] {
	return &Loop[K]{
		name: name, clock: c, workers: workers, sync: sync,
		wake:     make(chan struct{}, 1),
		waiting:  map[K]bool{},
		running:  map[K]bool{},
		failures: map[K]int{},
		later:    timers[K]{at: map[K]*timer[K]{}},
	}
}

// Add queues the key.
func (l *Loop[K]) Add(key K) {
	l.mu.Lock()
	l.addLocked(key)
	l.mu.Unlock()
	l.nudge()
}

// AddAfter queues the key after d. Of several requests, the earliest applies.
func (l *Loop[K]) AddAfter(key K, d time.Duration) {
	l.mu.Lock()
	l.later.set(key, l.clock.Now().Add(d))
	l.mu.Unlock()
	l.nudge()
}

// Forget drops the queued keys. It is meant to be called before Run, if keys were added from a view that has
// changed.
func (l *Loop[K]) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = nil
	clear(l.waiting)
	l.later = timers[K]{at: map[K]*timer[K]{}}
}

// Run processes the queue until ctx ends and the calls in progress have returned.
func (l *Loop[K]) Run(ctx context.Context) {
	ctx = klog.NewContext(ctx, klog.LoggerWithValues(klog.FromContext(ctx), "controller", l.name))
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		keys, wait := l.take()
		for _, key := range keys {
			calls.Go(func() { l.work(ctx, key) })
		}
		if !l.sleep(ctx, wait) {
			return
		}
	}
}

// RunSynced is Run once the informers that the keys are judged by have read everything, which is when their functions return true.
func (l *Loop[K]) RunSynced(ctx context.Context, synced ...cache.InformerSynced) {
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		l.Run(ctx)
	}
}

// sleep waits for a nudge or for the given time (forever if negative). It returns false if ctx ended.
func (l *Loop[K]) sleep(ctx context.Context, wait time.Duration) bool {
	var due <-chan time.Time
	if wait >= 0 {
		t := l.clock.NewTimer(wait)
		defer t.Stop()
		due = t.C()
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.wake:
	case <-due:
	}
	return ctx.Err() == nil
}

// take returns the keys to start now, and the time until the next one is due, or -1 if none is.
func (l *Loop[K]) take() ([]K, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	for l.later.Len() > 0 && !l.later.heap[0].when.After(now) {
		l.addLocked(heap.Pop(&l.later).(*timer[K]).key)
	}
	n := min(len(l.ready), l.workers-len(l.running))
	keys := append([]K(nil), l.ready[:n]...)
	l.ready = append(l.ready[:0], l.ready[n:]...)
	for _, key := range keys {
		delete(l.waiting, key)
		l.running[key] = true
	}
	if l.later.Len() == 0 {
		return keys, -1
	}
	return keys, l.later.heap[0].when.Sub(now)
}

// work makes one call of sync and requeues the key according to the result.
func (l *Loop[K]) work(ctx context.Context, key K) {
	again, err := l.sync(ctx, key)
	l.mu.Lock()
	delete(l.running, key)
	if l.waiting[key] {
		l.ready = append(l.ready, key)
	}
	switch {
	case apierrors.IsConflict(err):
		delete(l.failures, key)
		l.later.set(key, l.clock.Now().Add(Behind))
	case err != nil:
		pause := min(firstPause<<min(l.failures[key], 20), longPause)
		l.failures[key]++
		l.later.set(key, l.clock.Now().Add(pause))
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to sync, will retry", "key", fmt.Sprint(key), "after", pause)
		}
	case again > 0:
		delete(l.failures, key)
		l.later.set(key, l.clock.Now().Add(again))
	default:
		delete(l.failures, key)
	}
	l.mu.Unlock()
	l.nudge()
}

// addLocked queues the key unless it is already queued.
func (l *Loop[K]) addLocked(key K) {
	if l.waiting[key] {
		return
	}
	l.waiting[key] = true
	if !l.running[key] {
		l.ready = append(l.ready, key)
	}
}

func (l *Loop[K]) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
