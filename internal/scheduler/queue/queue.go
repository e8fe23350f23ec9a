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
// The pool is woken only by events that can help: each plugin that refused a Pod names them. Events that arrive
// during a decision are kept and checked against its outcome, so that none is lost. A refused Pod waits out a
// back-off that grows from one second to ten before it becomes active again. If nothing else is waiting, it is
// tried at once instead.
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

// The back-off after the first refusal, its upper bound, and the longest stay in the pool. The latter is a
// safety net in case an event that could have helped was not recognized.
const (
	DefaultInitialBackoff = time.Second
	DefaultMaxBackoff     = 10 * time.Second
	longestStay           = 5 * time.Minute
)

// Config configures a queue.
type Config struct {
	Clock clock.Clock
	// Less orders the active Pods.
	Less func(a, b framework.Waiting) bool
	// Gate is called before a Pod becomes active. If it returns a status, the Pod is held back.
	Gate func(*framework.PodInfo) *framework.Status
	// InitialBackoff and MaxBackoff bound the back-off. Zero means the defaults.
	InitialBackoff, MaxBackoff time.Duration
}

// Queue is safe for concurrent use, except that Pop must be called from one goroutine.
type Queue struct {
	config Config
	wake   chan struct{}

	mu     sync.Mutex
	items  map[types.UID]*Item
	active itemHeap
	// backoff holds refused Pods, errors those for which something failed. Only the former may be taken before
	// their time.
	backoff, errors itemHeap
	// pool holds refused Pods, gated those that a gate holds back, some of which were refused before. Both hold
	// *Item, the longest waiting first.
	pool, gated *list.List
	// deciding is the item popped last, until its outcome is reported; events are the events since then.
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
	// Pod is the newest state of the Pod. During a decision it is the state that is decided on, which does not
	// change until the decision is over.
	Pod *framework.PodInfo
	// Attempts counts the decisions on the Pod, including the present one.
	Attempts int
	// Added is when the Pod was added to the queue.
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
	gone    bool // deleted during the decision
	// newest is a state that arrived during the decision. It replaces Pod afterwards.
	newest *framework.PodInfo
}

// New returns an empty queue.
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

// Add adds a Pod that has no node, or updates one that is already queued. e describes the update.
func (q *Queue) Add(p *framework.PodInfo, e framework.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	item := q.items[p.Pod.UID]
	if item == nil {
		now := q.config.Clock.Now()
		item = &Item{Pod: p, Added: now, since: now, any: true}
		q.items[p.Pod.UID] = item
		q.admitLocked(item)
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
			q.admitAfterBackoffLocked(item)
		}
	case inGated:
		item.any = item.any || helps(item, e)
		q.recheckLocked(item)
	case nowhere:
		if q.deciding == item {
			q.events = append(q.events, e)
		}
	}
}

// Delete removes a Pod.
func (q *Queue) Delete(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	item := q.items[uid]
	if item == nil {
		return
	}
	delete(q.items, uid)
	item.gone = true
	q.takeOutLocked(item)
}

// Pop waits for a Pod to decide on. It returns nil when ctx ends. The outcome must be reported with Done,
// Refused or Failed; Done and Failed may be called after the next Pop.
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

// sleep waits for a nudge or for the given time (forever if negative). It returns false if ctx ended.
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

// next returns the Pod to decide on now, or the time until there may be one (-1 if only an event can provide
// one).
func (q *Queue) next() (*Item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	for _, h := range []*itemHeap{&q.backoff, &q.errors} {
		for h.Len() > 0 && !h.items[0].until.After(now) {
			q.admitLocked(h.items[0])
		}
	}
	for front := q.pool.Front(); front != nil; front = q.pool.Front() {
		item := front.Value.(*Item)
		if now.Sub(item.since) < longestStay {
			break
		}
		q.admitLocked(item)
	}
	var item *Item
	switch {
	case q.active.Len() > 0:
		item = q.active.items[0]
	case q.backoff.Len() > 0:
		item = q.backoff.items[0]
	default:
		return nil, q.untilNextLocked(now)
	}
	q.takeOutLocked(item)
	item.Attempts++
	q.deciding, q.events = item, q.events[:0]
	return item, 0
}

// untilNextLocked returns the time until a Pod becomes active by itself, or -1 if none does.
func (q *Queue) untilNextLocked(now time.Time) time.Duration {
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

// Done reports that a node was found: the Pod is not waiting any more.
func (q *Queue) Done(item *Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	item.newest = nil // the binding still reads Pod
	q.answeredLocked(item)
	if !item.gone {
		delete(q.items, item.Pod.Pod.UID)
	}
}

// Refused reports that no node was found. hints are those of the plugins that refused; none means that every
// event may help.
func (q *Queue) Refused(item *Item, hints []framework.Hint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	events := q.answeredLocked(item)
	if item.gone {
		return
	}
	q.postponeLocked(item)
	item.hints, item.any = hints, len(hints) == 0
	for _, e := range events {
		if helps(item, e) {
			q.admitAfterBackoffLocked(item)
			return
		}
	}
	item.place = inPool
	item.element = q.pool.PushBack(item)
}

// Failed reports that a decision could not be made or carried out. The Pod is tried again after its back-off.
// Failed brings back a Pod that Done removed.
func (q *Queue) Failed(item *Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	q.answeredLocked(item)
	if item.gone {
		return
	}
	if have := q.items[item.Pod.Pod.UID]; have != nil && have != item {
		return // it was added again in the meantime
	}
	q.items[item.Pod.Pod.UID] = item
	q.postponeLocked(item)
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
			q.admitAfterBackoffLocked(item)
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

// Recheck calls the gate again for a Pod that it holds back.
func (q *Queue) Recheck(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if item := q.items[uid]; item != nil && item.place == inGated {
		q.recheckLocked(item)
		q.nudge()
	}
}

// recheckLocked lets the item pass if the gate opens. The item becomes active, or returns to the pool if it was
// refused before and no event since then may help.
func (q *Queue) recheckLocked(item *Item) {
	if gate := q.config.Gate(item.Pod); gate != nil {
		item.gate = gate
		return
	}
	if item.any {
		q.admitAfterBackoffLocked(item)
		return
	}
	q.takeOutLocked(item)
	item.place = inPool
	item.element = q.pool.PushBack(item)
}

// Retry makes a Pod active at once, wherever it waits.
func (q *Queue) Retry(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if item := q.items[uid]; item != nil && item.place != nowhere && item.place != inActive {
		q.admitLocked(item)
		q.nudge()
	}
}

// helps reports whether the event may make the Pod fit.
func helps(item *Item, e framework.Event) bool {
	if item.any || e.Kinds&framework.ForceRetry != 0 {
		return true
	}
	return slices.ContainsFunc(item.hints, func(h framework.Hint) bool {
		return h.Kinds&e.Kinds != 0 && (h.Helps == nil || h.Helps(item.Pod, e))
	})
}

// answeredLocked ends the decision on the item and returns the events that arrived during it.
func (q *Queue) answeredLocked(item *Item) []framework.Event {
	if item.newest != nil {
		item.Pod, item.newest = item.newest, nil
	}
	if q.deciding != item {
		return nil
	}
	q.deciding = nil
	return q.events
}

// postponeLocked counts one more refusal.
func (q *Queue) postponeLocked(item *Item) {
	now := q.config.Clock.Now()
	d := min(q.config.InitialBackoff<<min(item.tries, 20), q.config.MaxBackoff)
	item.tries++
	item.since, item.until = now, now.Add(d)
}

// admitAfterBackoffLocked makes the item active once its back-off is over.
func (q *Queue) admitAfterBackoffLocked(item *Item) {
	if item.until.After(q.config.Clock.Now()) {
		q.putLocked(item, &q.backoff, inBackoff)
		return
	}
	q.admitLocked(item)
}

// admitLocked makes the item active.
func (q *Queue) admitLocked(item *Item) { q.putLocked(item, &q.active, inActive) }

// putLocked puts the item into a heap of candidates, unless the gate holds it back.
func (q *Queue) putLocked(item *Item, h *itemHeap, where place) {
	q.takeOutLocked(item)
	item.gate = q.config.Gate(item.Pod)
	if item.gate != nil {
		item.place, item.any = inGated, true
		item.element = q.gated.PushBack(item)
		return
	}
	item.place = where
	heap.Push(h, item)
}

// takeOutLocked removes the item from where it is.
func (q *Queue) takeOutLocked(item *Item) {
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
