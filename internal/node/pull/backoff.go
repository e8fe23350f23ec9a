package pull

import (
	"strings"
	"sync"
	"time"
)

// After a failed pull the same image is not pulled again for the same Pod for 10 s, then 20 s, and so on to
// five minutes; twice that time without a try wipes the slate clean.
const (
	firstWait = 10 * time.Second
	maxWait   = 300 * time.Second
)

// backoff remembers failed pulls.
type backoff struct {
	mu      sync.Mutex
	entries map[string]backoffEntry
}

type backoffEntry struct {
	wait   time.Duration
	since  time.Time
	reason string
}

func newBackoff() *backoff { return &backoff{entries: map[string]backoffEntry{}} }

// waits answers until when the key must wait, and why it failed last.
func (b *backoff) waits(key string, now time.Time) (until time.Time, reason string, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	if !ok || now.Sub(e.since) > 2*maxWait || now.Sub(e.since) >= e.wait {
		return time.Time{}, "", false
	}
	return e.since.Add(e.wait), e.reason, true
}

// failed notes a failure.
func (b *backoff) failed(key, reason string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	if !ok || now.Sub(e.since) > 2*maxWait {
		e.wait = firstWait
	} else {
		e.wait = min(2*e.wait, maxWait)
	}
	e.since, e.reason = now, reason
	b.entries[key] = e
}

func (b *backoff) forget(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, key)
}

func (b *backoff) forgetAll(prefix string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.entries {
		if strings.HasPrefix(key, prefix) {
			delete(b.entries, key)
		}
	}
}
