package loop

import (
	"container/heap"
	"time"
)

// timer is a key and the time when it is due.
type timer[K comparable] struct {
	key   K
	when  time.Time
	index int
}

// timers is a heap of keys, sorted by due time. Each key is in it once.
type timers[K comparable] struct {
	heap []*timer[K]
	at   map[K]*timer[K]
}

// set makes the key due at the given time, unless it is due earlier.
func (t *timers[K]) set(key K, when time.Time) {
	if old, ok := t.at[key]; ok {
		if when.Before(old.when) {
			old.when = when
			heap.Fix(t, old.index)
		}
		return
	}
	heap.Push(t, &timer[K]{key: key, when: when})
}

func (t *timers[K]) Len() int           { return len(t.heap) }
func (t *timers[K]) Less(i, j int) bool { return t.heap[i].when.Before(t.heap[j].when) }
func (t *timers[K]) Swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].index, t.heap[j].index = i, j
}

// Push implements heap.Interface.
func (t *timers[K]) Push(x any) {
	item := x.(*timer[K])
	item.index = len(t.heap)
	t.heap = append(t.heap, item)
	t.at[item.key] = item
}

// Pop implements heap.Interface.
func (t *timers[K]) Pop() any {
	last := len(t.heap) - 1
	item := t.heap[last]
	t.heap[last] = nil
	t.heap = t.heap[:last]
	delete(t.at, item.key)
	return item
}
