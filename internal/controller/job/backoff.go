package job

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A failed Pod is replaced after 10 s, 20 s, 40 s, … up to ten minutes, counted from its end. The API documentation of
// spec.backoffLimit gives these numbers.
const (
	firstBackOff   = 10 * time.Second
	longestBackOff = 10 * time.Minute
)

// backOff is the record of a Job's failures since its last success. It is lost with the daemon: then the first failure
// counts as the first.
type backOff struct {
	failures int32
	last     time.Time
}

// after returns the record with Pods that have just ended.
func (b backOff) after(succeeded, failed []*corev1.Pod) backOff {
	if len(succeeded) > 0 {
		b = backOff{}
	}
	if len(failed) == 0 {
		return b
	}
	var success time.Time
	for _, p := range succeeded {
		if end := endOf(p); end.After(success) {
			success = end
		}
	}
	ends := make([]time.Time, len(failed))
	for i, p := range failed {
		ends[i] = endOf(p)
	}
	slices.SortFunc(ends, time.Time.Compare)
	for _, end := range ends {
		if len(succeeded) == 0 || end.After(success) {
			b.failures++
			b.last = end
		}
	}
	return b
}

// left returns what is left of the pause.
func (b backOff) left(now time.Time) time.Duration { return pauseLeft(b.failures, b.last, now) }

func pauseLeft(failures int32, last, now time.Time) time.Duration {
	if failures <= 0 {
		return 0
	}
	pause := longestBackOff
	if failures < 8 { // 10 s doubled seven times is more than ten minutes
		pause = min(firstBackOff<<(failures-1), longestBackOff)
	}
	return max(0, last.Add(pause).Sub(now))
}
