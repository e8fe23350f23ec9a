package probe

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestObserve(t *testing.T) {
	// Results are o for success and x for failure; after each the verdict is o, x or - for none yet, upper
	// case where it changed.
	for _, tc := range []struct {
		name             string
		kind             kind
		success, failure int32
		results, want    string
	}{
		{"readiness follows", readiness, 1, 1, "xoxo", "XOXO"},
		{"failures below the threshold", readiness, 1, 3, "xxoxxx", "--OooX"},
		{"a success breaks the row", readiness, 1, 3, "oxxoxxo", "Ooooooo"},
		{"successes below the threshold", readiness, 3, 1, "ooxooo", "--XxxO"},
		{"liveness ends with the verdict", liveness, 1, 3, "oxxxo", "OooXx"},
		{"liveness goes on while it lives", liveness, 1, 2, "oooxo", "Ooooo"},
		{"startup ends with success", startup, 1, 3, "xxox", "--Oo"},
		{"startup ends with failure", startup, 1, 2, "xxo", "-Xx"},
		{"thresholds that are not set are one", readiness, 0, 0, "xo", "XO"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newState(tc.kind, &v1.Probe{SuccessThreshold: tc.success, FailureThreshold: tc.failure})
			got := ""
			for _, r := range tc.results {
				changed := s.observe(r == 'o')
				mark := map[bool]string{true: "o", false: "x"}
				switch {
				case s.verdict == nil:
					got += "-"
				case changed:
					got += map[string]string{"o": "O", "x": "X"}[mark[*s.verdict]]
				default:
					got += mark[*s.verdict]
				}
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestFirstDue(t *testing.T) {
	start := time.Unix(1000, 0)
	spec := &v1.Probe{InitialDelaySeconds: 15}
	for _, tc := range []struct{ now, want time.Duration }{{0, 15 * time.Second}, {14 * time.Second, 15 * time.Second}, {time.Minute, time.Minute}} {
		if got := firstDue(start, start.Add(tc.now), spec).Sub(start); got != tc.want {
			t.Errorf("at %v: %v, want %v", tc.now, got, tc.want)
		}
	}
}

func TestNextDue(t *testing.T) {
	due := time.Unix(1000, 0)
	for _, tc := range []struct{ took, next, beat time.Duration }{
		{0, 10, 10},
		{9, 10, 10},
		{11, 11, 10},
		{35, 35, 30},
	} {
		next, beat := nextDue(due, due.Add(tc.took*time.Second), 10*time.Second)
		if next.Sub(due) != tc.next*time.Second || beat.Sub(due) != tc.beat*time.Second {
			t.Errorf("after %v s: next %v, beat %v", int64(tc.took), next.Sub(due), beat.Sub(due))
		}
	}
}
