package pod

import (
	"encoding/json"
	"hash/fnv"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
)

// The first restart of a container is immediate; then it is left alone for 10 s after it ended, for 20 s the
// next time, and so on to the node's maximum; ten minutes of running wipe the slate clean. How long it must
// be left alone after an attempt is written on the attempt itself (the annotation BackoffAnnotation), so that
// it is known after the daemon was killed.
const (
	firstBackoff = 10 * time.Second
	backoffReset = 10 * time.Minute
	// DefaultMaxBackoff is the longest back-off when the node's settings say nothing.
	DefaultMaxBackoff = 300 * time.Second
	// BackoffAnnotation is the annotation of a container with its back-off, as "10s/KEY".
	BackoffAnnotation = "podium.dev/backoff"
)

// Hash is the hash of the part of a container's spec that makes the node replace it when it changes: name and image.
// It is what package container writes on every container.
func Hash(c *v1.Container) string {
	picked, err := json.Marshal(map[string]string{"name": c.Name, "image": c.Image})
	if err != nil {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write(picked)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// backoffKey changes with what makes a new start of a container worth trying at once.
func backoffKey(c *v1.Container) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Image + "/" + c.Resources.String()))
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// holds reports whether the back-off of an attempt that has ended still counts: it was computed for this
// spec, and the attempt did not run long enough to be forgiven.
func holds(last *Container, key string) bool {
	return last.Backoff > 0 && last.BackoffKey == key && last.FinishedAt.Sub(last.CreatedAt) <= backoffReset
}

// held answers until when the container must be left alone, and how long that is in all. It is not held when
// ok is false; until is then when it last was, the zero time when it never was.
func held(c *v1.Container, o *Observed) (until time.Time, window time.Duration, ok bool) {
	last := lastExit(c.Name, o)
	if last == nil || !holds(last, backoffKey(c)) {
		return time.Time{}, 0, false
	}
	if k := o.ender(last); k != nil && k.Again {
		return time.Time{}, 0, false
	}
	until = last.FinishedAt.Add(last.Backoff)
	return until, last.Backoff, o.Now.Before(until)
}

// toldUntil is until when the status of a container that is held says that it has ended, before it says that it
// waits: first the one, then the other, as with the kubelet, whose look at the runtime is a second old at most.
// The end of one that the node has ended itself is no news to it.
func toldUntil(c *v1.Container, o *Observed) time.Time {
	last := lastExit(c.Name, o)
	if k := o.ender(last); k != nil && k.Restart {
		return time.Time{}
	}
	return last.FinishedAt.Add(min(time.Second, last.Backoff/2))
}

// lastExit returns the latest attempt at running the container that has ended.
func lastExit(name string, o *Observed) *Container {
	for i := range o.Containers {
		if c := &o.Containers[i]; c.Name == name && c.State == Exited {
			return c
		}
	}
	return nil
}

// nextBackoff is how long the container is to be left alone after the attempt that is about to start.
func nextBackoff(c *v1.Container, o *Observed) time.Duration {
	most := o.Node.MaxBackoff
	if most <= 0 {
		most = DefaultMaxBackoff
	}
	last := lastExit(c.Name, o)
	if last == nil {
		return 0
	}
	switch k := o.ender(last); {
	case last.Attempt == 0 && k != nil && k.Again:
		return 0 // ended by the node to be started again in one step, before any exit of its own accord
	case !holds(last, backoffKey(c)):
		return min(firstBackoff, most)
	}
	return min(2*last.Backoff, most)
}

// FormatBackoff and ParseBackoff are the two ends of the annotation BackoffAnnotation.
func FormatBackoff(window time.Duration, key string) string { return window.String() + "/" + key }

// ParseBackoff reads what FormatBackoff wrote; of anything else it makes no back-off.
func ParseBackoff(s string) (time.Duration, string) {
	for i := range len(s) {
		if s[i] != '/' {
			continue
		}
		window, err := time.ParseDuration(s[:i])
		if err != nil || window < 0 {
			return 0, ""
		}
		return window, s[i+1:]
	}
	return 0, ""
}
