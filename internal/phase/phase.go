// Package phase runs a start-up: a list of named steps, each as soon as the steps that it depends on have
// ended.
package phase

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/utils/clock"
)

// Phase is one named step of a start-up.
type Phase struct {
	Name string
	// After names the phases that must have succeeded before this one starts.
	After []string
	// Run performs the step. Its context ends when another phase has failed.
	Run func(ctx context.Context) error
}

// Report describes a phase that has ended.
type Report struct {
	Name string
	// Start is when the phase began, counted from the start of the list; Took is how long it ran.
	Start, Took time.Duration
	Err         error
}

// Run runs the phases, each as soon as those it comes after have succeeded, and calls report for each that
// ended, one at a time. It returns the first error, prefixed with the phase's name, after every running phase
// has ended. Phases that have not started by then never start.
func Run(ctx context.Context, c clock.PassiveClock, phases []Phase, report func(Report)) error {
	if err := check(phases); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	began := c.Now()
	ended := make(chan Report)
	started, done := map[string]bool{}, map[string]bool{}
	running := 0
	var failure error
	for {
		for _, p := range phases {
			if failure == nil && !started[p.Name] && allIn(done, p.After) {
				started[p.Name] = true
				running++
				go func() {
					from := c.Now()
					err := p.Run(ctx)
					ended <- Report{Name: p.Name, Start: from.Sub(began), Took: c.Since(from), Err: err}
				}()
			}
		}
		if running == 0 {
			return failure
		}
		r := <-ended
		running--
		report(r)
		if r.Err == nil {
			done[r.Name] = true
			continue
		}
		if failure == nil {
			failure = fmt.Errorf("%s: %w", r.Name, r.Err)
			cancel()
		}
	}
}

// check rejects a list that could never end: a duplicate name, an unknown name, or a cycle.
func check(phases []Phase) error {
	known := map[string]bool{}
	for _, p := range phases {
		if known[p.Name] {
			return fmt.Errorf("phase %q is listed twice", p.Name)
		}
		if !allIn(known, p.After) {
			return errors.New("phase " + p.Name + " comes after a phase that is not listed above it")
		}
		known[p.Name] = true
	}
	return nil
}

func allIn(set map[string]bool, names []string) bool {
	for _, n := range names {
		if !set[n] {
			return false
		}
	}
	return true
}
