package probe

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// kind is one of the three probes of a container.
type kind int

const (
	startup kind = iota
	liveness
	readiness
	kinds
)

func (k kind) String() string { return [...]string{"Startup", "Liveness", "Readiness"}[k] }

// specOf is a container's probe of a kind, or nil.
func specOf(c *v1.Container, k kind) *v1.Probe {
	return [...]*v1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe}[k]
}

// state is what a probe's results so far make. It is pure: it knows neither time nor containers.
type state struct {
	kind kind
	// success and failure are how many equal results in a row conclude.
	success, failure int

	last bool
	run  int
	// verdict is the last conclusion, nil before the first.
	verdict *bool
	// held is that no result is asked for any more: the container lives no longer, or has started.
	held bool
}

func newState(k kind, spec *v1.Probe) state {
	return state{kind: k, success: int(max(spec.SuccessThreshold, 1)), failure: int(max(spec.FailureThreshold, 1))}
}

// observe takes one result and reports whether the verdict changed.
func (s *state) observe(ok bool) bool {
	if s.held {
		return false
	}
	if s.run == 0 || s.last != ok {
		s.last, s.run = ok, 0
	}
	s.run++
	threshold := s.failure
	if ok {
		threshold = s.success
	}
	if s.run < threshold {
		return false
	}
	changed := s.verdict == nil || *s.verdict != ok
	s.verdict = &ok
	s.held = s.kind == startup || (s.kind == liveness && !ok)
	return changed
}

// firstDue is when a probe is first run: after its initial delay, counted from the container's start, but
// not in the past.
func firstDue(started, now time.Time, spec *v1.Probe) time.Time {
	due := started.Add(time.Duration(spec.InitialDelaySeconds) * time.Second)
	if due.Before(now) {
		return now
	}
	return due
}

// nextDue is when a probe is run after a run that was due at a time and ended now: one period later. A run
// that took longer than its period is followed at once, and then by the beat it had; missed beats are not
// made up for. beat is what the next call is given as due.
func nextDue(due, now time.Time, period time.Duration) (next, beat time.Time) {
	next = due.Add(period)
	if next.After(now) {
		return next, next
	}
	missed := now.Sub(next) / period
	return now, next.Add(missed * period)
}

func periodOf(spec *v1.Probe) time.Duration {
	return time.Duration(max(spec.PeriodSeconds, 1)) * time.Second
}

func timeoutOf(spec *v1.Probe) time.Duration {
	return time.Duration(max(spec.TimeoutSeconds, 1)) * time.Second
}
