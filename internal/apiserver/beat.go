package apiserver

import (
	"time"

	"k8s.io/utils/clock"
)

// beat is the time between the moments at which timers of a beatClock may fire.
const beat = time.Second

// beatClock is the real clock, but its longer timers fire together, up to one beat late. Each watch cache keeps
// a timer of about a second for the bookmarks of its watchers: dozens of caches would otherwise wake an idle
// node dozens of times a second.
type beatClock struct {
	clock.RealClock
	start time.Time
}

// newBeatClock answers with a clock whose beats are counted from now on.
func newBeatClock() beatClock { return beatClock{start: time.Now()} }

// NewTimer implements clock.Clock.
func (c beatClock) NewTimer(d time.Duration) clock.Timer {
	return beatTimer{c.RealClock.NewTimer(c.late(d)), c}
}

// late is the time until the first beat that is no sooner than d from now; what is shorter than half a beat
// stays as it is.
func (c beatClock) late(d time.Duration) time.Duration {
	if d < beat/2 {
		return d
	}
	since := time.Since(c.start)
	return (since + d + beat - 1).Truncate(beat) - since
}

// beatTimer is a timer that stays on the beat when it is set again.
type beatTimer struct {
	clock.Timer
	clock beatClock
}

// Reset implements clock.Timer.
func (t beatTimer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.late(d)) }
