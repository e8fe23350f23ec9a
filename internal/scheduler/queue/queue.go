// Package queue holds the Pods that wait for a node.
//
// A waiting Pod is in one of three places:
//
//	         Add                    Pop
//	──────────────────▶  active  ─────────▶  decision ──▶ bound (Done)
//	                       ▲ ▲                  │
//	   back-off is over,   │ └───────┐          │ no node (Refused)     the API failed (Failed)
//	   or nothing else     │         │          ▼                              │
//	   is waiting          │      event      pool ── event that can help ──▶ back-off ◀┘
//	                       └─────────────────────────────────────────────────┘
//
// The pool is woken only by events that can help: each plugin that refused a Pod has said which those are.
// Events that come while a decision is under way are remembered and held against its outcome, so that none
// falls between. A Pod that has been refused waits out a back-off that grows from one second to ten before
// it is active again, unless nothing else is waiting: then it may as well be tried now.
package queue

import (
	"container/heap"
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/scheduler/framework"
)

// The back-off after the first, second, … refusal, and the longest stay in the pool: a safety net should an
// event that could have helped not have been known to.
const (
	DefaultInitialBackoff = time.Second
	DefaultMaxBackoff     = 10 * time.Second
	longestStay           = 5 * time.Minute
)

// Config is how a queue works.
type Config struct {
	Clock clock.Clock
	// Less orders the active Pods.
	Less func(a, b framework.Waiting) bool
	// Gate is asked before a Pod becomes active; a refusal keeps it in the pool.
	Gate func(*framework.PodInfo) *framework.Status
	// InitialBackoff and MaxBackoff bound the back-off; zero means the defaults.
	InitialBackoff, MaxBackoff time.Duration
}

// Queue is safe for use by many goroutines; Pop is for one.
type Queue struct {
	config Config
	wake   chan struct{}

	mu     sync.Mutex
	items  map[types.UID]*Item
	active itemHeap
	// backoff holds refused Pods, errors those for which something failed: only the former may be taken
	// before their time.
	backoff, errors itemHeap
	// pool holds refused Pods, gated those that a gate holds back, of which some have been refused before;
	// both of *Item, the longest waiting first.
	pool, gated *list.List
	// deciding is the item that was popped last and is not answered for; events are those since.
	deciding *Item
	events   []framework.Event
}

// place is where an item is.
type place int

const (
	nowhere place = iota // being decided on
	inActive
	inBackoff
	inErrors
	inPool
	inGated
)

// Item is a waiting Pod.
type Item struct {
	// Pod is the newest state of the Pod, or, while it is decided on, the state that is decided on: that one
	// is not replaced under the decision's hands.
	Pod *framework.PodInfo
	// Attempts counts the decisions on the Pod, the present one included.
	Attempts int
	// Added is when the Pod came into the queue.
	Added time.Time

	since   time.Time // of the last refusal, or Added
	until   time.Time // the end of its back-off
	tries   int       // refusals in a row that count for the back-off
	hints   []framework.Hint
	any     bool              // every event may help
	gate    *framework.Status // set when inGated
	place   place
	index   int
	element *list.Element
	gone    bool // deleted while being decided on
	// newest came in while the Pod was decided on, and takes Pod's place afterwards.
	newest *framework.PodInfo
}

// New makes an empty queue.
func New(config Config) *Queue {
	if config.InitialBackoff == 0 {
		config.InitialBackoff = DefaultInitialBackoff
	}
	if config.MaxBackoff == 0 {
		config.MaxBackoff = DefaultMaxBackoff
	}
	if config.Gate == nil {
		config.Gate = func(*framework.PodInfo) *framework.Status { return nil }
	}
	q := &Queue{config: config, wake: make(chan struct{}, 1), items: map[types.UID]*Item{}, pool: list.New(), gated: list.New()}
	q.active.less = func(a, b *Item) bool {
		return config.Less(framework.Waiting{Pod: a.Pod, Since: a.since}, framework.Waiting{Pod: b.Pod, Since: b.since})
	}
	byTime := func(a, b *Item) bool {
		if !a.until.Equal(b.until) {
			return a.until.Before(b.until)
		}
		return q.active.less(a, b)
	}
	q.backoff.less, q.errors.less = byTime, byTime
	return q
}

// Add takes in a Pod that has no node, or the newest state of one that is here. e tells what of the Pod has
// changed, for one that is here.
func (q *Queue) Add(p *framework.PodInfo, e framework.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	item := q.items[p.Pod.UID]
	if item == nil {
		now := q.config.Clock.Now()
		item = &Item{Pod: p, Added: now, since: now, any: true}
		q.items[p.Pod.UID] = item
		q.admit(item)
		return
	}
	if item.place == nowhere {
		item.newest = p
	} else {
		item.Pod = p
	}
	switch item.place {
	case inActive:
		heap.Fix(&q.active, item.index)
	case inPool:
		if helps(item, e) {
			q.admitAfterBackoff(item)
		}
	case inGated:
		item.any = item.any || helps(item, e)
		q.recheck(item)
	case nowhere:
		if q.deciding == item {
			q.events = append(q.events, e)
		}
	}
}

// Delete takes a Pod out.
func (q *Queue) Delete(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	item := q.items[uid]
	if item == nil {
		return
	}
	delete(q.items, uid)
	item.gone = true
	q.takeOut(item)
}

// Pop waits for a Pod to decide on, or for the end of ctx, which answers nil. The Pod must be answered for
// with Done, Refused or Failed; the first and the last may come after the next Pop.
func (q *Queue) Pop(ctx context.Context) *Item {
	for {
		item, wait := q.next()
		if item != nil {
			return item
		}
		if !q.sleep(ctx, wait) {
			return nil
		}
	}
}

// sleep waits for a nudge, for the given time (negative: for ever) or for the end, which answers false.
func (q *Queue) sleep(ctx context.Context, wait time.Duration) bool {
	var due <-chan time.Time
	if wait >= 0 {
		t := q.config.Clock.NewTimer(wait)
		defer t.Stop()
		due = t.C()
	}
	select {
	case <-ctx.Done():
		return false
	case <-q.wake:
	case <-due:
	}
	return ctx.Err() == nil
}

// next answers with the Pod to decide on now, or with the time until there may be one (-1: only an event
// can tell).
func (q *Queue) next() (*Item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	for _, h := range []*itemHeap{&q.backoff, &q.errors} {
		for h.Len() > 0 && !h.items[0].until.After(now) {
			q.admit(h.items[0])
		}
	}
	for front := q.pool.Front(); front != nil; front = q.pool.Front() {
		item := front.Value.(*Item)
		if now.Sub(item.since) < longestStay {
			break
		}
		q.admit(item)
	}
	var item *Item
	switch {
	case q.active.Len() > 0:
		item = q.active.items[0]
	case q.backoff.Len() > 0:
		item = q.backoff.items[0]
	default:
		return nil, q.untilNext(now)
	}
	q.takeOut(item)
	item.Attempts++
	q.deciding, q.events = item, q.events[:0]
	return item, 0
}

// untilNext is the time until a Pod becomes active by itself, -1 if none does.
func (q *Queue) untilNext(now time.Time) time.Duration {
	wait := time.Duration(-1)
	if q.errors.Len() > 0 {
		wait = q.errors.items[0].until.Sub(now)
	}
	if front := q.pool.Front(); front != nil {
		left := longestStay - now.Sub(front.Value.(*Item).since)
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return wait
}

// Done says that a node was found: the Pod is not waiting any more.
func (q *Queue) Done(item *Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	item.newest = nil // who carries the decision out goes on reading Pod
	q.answered(item)
	if !item.gone {
		delete(q.items, item.Pod.Pod.UID)
	}
}

// Refused says that no node was found. hints are those of the plugins that refused; none means that every
// event may help.
func (q *Queue) Refused(item *Item, hints []framework.Hint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	events := q.answered(item)
	if item.gone {
		return
	}
	q.postpone(item)
	item.hints, item.any = hints, len(hints) == 0
	for _, e := range events {
		if helps(item, e) {
			q.admitAfterBackoff(item)
			return
		}
	}
	item.place = inPool
	item.element = q.pool.PushBack(item)
}

// Failed says that a decision could not be made or not be carried out: the Pod is tried again after its
// back-off. It brings back a Pod that Done took out.
func (q *Queue) Failed(item *Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	q.answered(item)
	if item.gone {
		return
	}
	if have := q.items[item.Pod.Pod.UID]; have != nil && have != item {
		return // it came in anew in the meantime
	}
	q.items[item.Pod.Pod.UID] = item
	q.postpone(item)
	item.hints, item.any = nil, true
	item.place = inErrors
	heap.Push(&q.errors, item)
}

// Event wakes the Pods in the pool that the event may help.
func (q *Queue) Event(e framework.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deciding != nil {
		q.events = append(q.events, e)
	}
	woken := false
	for element := q.pool.Front(); element != nil; {
		item := element.Value.(*Item)
		element = element.Next()
		if helps(item, e) {
			q.admitAfterBackoff(item)
			woken = true
		}
	}
	for element := q.gated.Front(); element != nil; element = element.Next() {
		item := element.Value.(*Item)
		item.any = item.any || helps(item, e)
	}
	if woken {
		q.nudge()
	}
}

// Recheck has a Pod that a gate holds back ask the gate again.
func (q *Queue) Recheck(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if item := q.items[uid]; item != nil && item.place == inGated {
		q.recheck(item)
		q.nudge()
	}
}

// recheck lets the item past the gate if it opens: to be active, or, when it has been refused before and
// nothing has happened since that may help, into the pool.
func (q *Queue) recheck(item *Item) {
	if gate := q.config.Gate(item.Pod); gate != nil {
		item.gate = gate
		return
	}
	if item.any {
		q.admitAfterBackoff(item)
		return
	}
	q.takeOut(item)
	item.place = inPool
	item.element = q.pool.PushBack(item)
}

// Retry has a Pod tried again at once, wherever it waits.
func (q *Queue) Retry(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if item := q.items[uid]; item != nil && item.place != nowhere && item.place != inActive {
		q.admit(item)
		q.nudge()
	}
}

// helps says whether the event may make the Pod fit.
func helps(item *Item, e framework.Event) bool {
	if item.any || e.Kinds&framework.ForceRetry != 0 {
		return true
	}
	return slices.ContainsFunc(item.hints, func(h framework.Hint) bool {
		return h.Kinds&e.Kinds != 0 && (h.Helps == nil || h.Helps(item.Pod, e))
	})
}

// answered closes the decision on the item, and answers with what happened during it.
func (q *Queue) answered(item *Item) []framework.Event {
	if item.newest != nil {
		item.Pod, item.newest = item.newest, nil
	}
	if q.deciding != item {
		return nil
	}
	q.deciding = nil
	return q.events
}

// postpone counts one more refusal.
func (q *Queue) postpone(item *Item) {
	now := q.config.Clock.Now()
	d := min(q.config.InitialBackoff<<min(item.tries, 20), q.config.MaxBackoff)
	item.tries++
	item.since, item.until = now, now.Add(d)
}

// admitAfterBackoff makes the item active when its back-off is over.
func (q *Queue) admitAfterBackoff(item *Item) {
	if item.until.After(q.config.Clock.Now()) {
		q.put(item, &q.backoff, inBackoff)
		return
	}
	q.admit(item)
}

// admit makes the item active.
func (q *Queue) admit(item *Item) { q.put(item, &q.active, inActive) }

// put puts the item into a heap from which it will be decided on, if the gate lets it.
func (q *Queue) put(item *Item, h *itemHeap, where place) {
	q.takeOut(item)
	item.gate = q.config.Gate(item.Pod)
	if item.gate != nil {
		item.place, item.any = inGated, true
		item.element = q.gated.PushBack(item)
		return
	}
	item.place = where
	heap.Push(h, item)
}

// takeOut takes the item out of where it is.
func (q *Queue) takeOut(item *Item) {
	switch item.place {
	case inActive:
		heap.Remove(&q.active, item.index)
	case inBackoff:
		heap.Remove(&q.backoff, item.index)
	case inErrors:
		heap.Remove(&q.errors, item.index)
	case inPool:
		q.pool.Remove(item.element)
		item.element = nil
	case inGated:
		q.gated.Remove(item.element)
		item.element, item.gate = nil, nil
	}
	item.place = nowhere
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
