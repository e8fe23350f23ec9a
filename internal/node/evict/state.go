package evict

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// State remembers what was seen before, as far as it matters: since when a threshold is met, which one has not
// got back what it must, and when a condition was last seen.
type State struct {
	thresholds []Threshold
	// transition is how long a condition stays after it was last seen.
	transition time.Duration
	// since is when each threshold came to be met, by its index.
	since map[int]time.Time
	// unresolved are the thresholds that Pods were ended for, or would have been, by their index.
	unresolved map[int]bool
	seen       map[v1.NodeConditionType]time.Time
}

// NewState has seen nothing yet.
func NewState(thresholds []Threshold, transition time.Duration) *State {
	return &State{
		thresholds: thresholds, transition: transition,
		since: map[int]time.Time{}, unresolved: map[int]bool{}, seen: map[v1.NodeConditionType]time.Time{},
	}
}

// Verdict is what follows from an observation.
type Verdict struct {
	// Conditions are those that the node has, in the order of their names.
	Conditions []v1.NodeConditionType
	// Due are the thresholds that something is to be done for, the most pressing first.
	Due []Threshold
	// Next is when time alone will change the verdict; zero for never.
	Next time.Time
}

// Observe takes in what is seen now.
func (s *State) Observe(now time.Time, seen Observations) Verdict {
	met := map[int]bool{}
	for i := range s.thresholds {
		t := &s.thresholds[i]
		// One that was due stays met until there is as much more as it must get back.
		met[i] = t.met(seen, false) || (s.unresolved[i] && t.met(seen, true))
	}
	var v Verdict
	since := map[int]time.Time{}
	s.unresolved = map[int]bool{}
	for i := range s.thresholds {
		if !met[i] {
			continue
		}
		t := s.thresholds[i]
		since[i] = now
		if at, before := s.since[i]; before {
			since[i] = at
		}
		s.seen[t.Signal.condition()] = now
		if due := since[i].Add(t.Grace); due.After(now) {
			v.sooner(due)
			continue
		}
		s.unresolved[i] = true
		v.Due = append(v.Due, t)
	}
	s.since = since
	for _, c := range slices.Sorted(maps.Keys(s.seen)) {
		until := s.seen[c].Add(s.transition)
		if until.After(now) {
			v.Conditions = append(v.Conditions, c)
			v.sooner(until)
		} else {
			delete(s.seen, c)
		}
	}
	return v
}

func (v *Verdict) sooner(at time.Time) {
	if v.Next.IsZero() || at.Before(v.Next) {
		v.Next = at
	}
}

// Relieved reports whether no threshold is met any more, with all that must be got back.
func (s *State) Relieved(seen Observations) bool {
	for i := range s.thresholds {
		if s.thresholds[i].met(seen, true) {
			return false
		}
	}
	return true
}
