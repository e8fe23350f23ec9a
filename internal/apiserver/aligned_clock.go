package apiserver

import (
	"time"

	"k8s.io/utils/clock"
)

// beat is the time between the moments at which timers of a beatClock may fire.
const beat = time.Second

// beatClock is the real clock, but its longer timers fire together, up to half a beat early or late. Each watch cache keeps
// a timer of about a second for the bookmarks of its watchers: dozens of caches would otherwise wake an idle
// node dozens of times a second.
type beatClock struct {
	clock.RealClock
	start time.Time
}

// newBeatClock returns a clock whose beats are counted from now on.
func newBeatClock() beatClock { return beatClock{start: time.Now()} }

// NewTimer implements clock.Clock.
func (c beatClock) NewTimer(d time.Duration) clock.Timer {
	return beatTimer{c.RealClock.NewTimer(c.near(d)), c}
}

// near is the time until the beat that is nearest to d from now; what is shorter than a beat stays as it is.
func (c beatClock) near(d time.Duration) time.Duration {
	if d < beat {
		return d
	}
	since := time.Since(c.start)
	return (since + d).Round(beat) - since
}

// beatTimer is a timer that stays on the beat when it is set again.
type beatTimer struct {
	clock.Timer
	clock beatClock
}

// Reset implements clock.Timer.
func (t beatTimer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.near(d)) }

// cacheClock is the clock of every watch cache.
var cacheClock = newBeatClock()
