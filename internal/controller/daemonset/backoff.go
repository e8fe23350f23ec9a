package daemonset

import "time"

// A Pod that fails is replaced after 1 s, 2 s, 4 s, … up to 15 minutes: a node that refuses the Pod would else be asked
// without end. The pause is forgotten when it has been over for twice the longest.
const (
	firstBackOff   = time.Second
	longestBackOff = 15 * time.Minute
)

// backOff is the pause after the failures of a DaemonSet's Pods on one node. The zero value has none.
type backOff struct {
	pause time.Duration
	since time.Time
}

// left returns what is left of the pause.
func (b backOff) left(now time.Time) time.Duration {
	return max(0, b.since.Add(b.pause).Sub(now))
}

// next returns the pause after another failure.
func (b backOff) next(now time.Time) backOff {
	if b.pause == 0 || now.Sub(b.since) > 2*longestBackOff {
		return backOff{firstBackOff, now}
	}
	return backOff{min(2*b.pause, longestBackOff), now}
}
