package podgc

import (
	"sync"
	"time"
)

// missing records since when nodes have been missing.
type missing struct {
	mu   sync.Mutex
	from map[string]time.Time
}

func newMissing() *missing { return &missing{from: map[string]time.Time{}} }

// since returns since when the node has been missing, which is now if that is news.
func (m *missing) since(node string, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.from[node]; ok {
		return at
	}
	m.from[node] = now
	return now
}

func (m *missing) forget(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.from, node)
}
