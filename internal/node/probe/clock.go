package probe

import (
	"time"

	"k8s.io/utils/clock"
)

// delayed is a clock that can call later. The real one and the fake one can; any other is helped out.
func delayed(c clock.WithTicker) clock.WithDelayedExecution {
	if c == nil {
		return clock.RealClock{}
	}
	if d, ok := c.(clock.WithDelayedExecution); ok {
		return d
	}
	return waitingClock{c}
}

// waitingClock calls later by waiting.
type waitingClock struct{ clock.WithTicker }

// AfterFunc calls f once d has passed, unless the timer is stopped before.
func (w waitingClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	t := stoppable{w.NewTimer(d), make(chan struct{}, 1)}
	go func() {
		select {
		case <-t.C():
			f()
		case <-t.stop:
		}
	}()
	return t
}

type stoppable struct {
	clock.Timer
	stop chan struct{}
}

// Stop ends the waiting too.
func (s stoppable) Stop() bool {
	select {
	case s.stop <- struct{}{}:
	default:
	}
	return s.Timer.Stop()
}
