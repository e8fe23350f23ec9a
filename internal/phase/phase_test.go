package phase

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"k8s.io/utils/clock"
)

func TestRunKeepsTheOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	step := func(name string, after ...string) Phase {
		return Phase{Name: name, After: after, Run: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return nil
		}}
	}
	var reported []string
	err := Run(t.Context(), clock.RealClock{}, []Phase{step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")},
		func(r Report) { reported = append(reported, r.Name) })
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(order, "")
	if got != "abcd" && got != "acbd" {
		t.Errorf("ran in the order %s", got)
	}
	if len(reported) != 4 {
		t.Errorf("reported %v", reported)
	}
}

func TestRunEndsOnTheFirstFailure(t *testing.T) {
	boom := errors.New("no disk")
	later := false
	err := Run(t.Context(), clock.RealClock{}, []Phase{
		{Name: "store", Run: func(context.Context) error { return boom }},
		{Name: "slow", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		{Name: "api", After: []string{"store"}, Run: func(context.Context) error { later = true; return nil }},
	}, func(Report) {})
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "store: ") {
		t.Errorf("got %v", err)
	}
	if later {
		t.Error("a phase ran whose need had failed")
	}
}

func TestRunRefusesAListThatCannotEnd(t *testing.T) {
	nop := func(context.Context) error { return nil }
	for _, list := range [][]Phase{
		{{Name: "a", Run: nop}, {Name: "a", Run: nop}},
		{{Name: "a", After: []string{"b"}, Run: nop}, {Name: "b", Run: nop}},
	} {
		if err := Run(t.Context(), clock.RealClock{}, list, func(Report) {}); err == nil {
			t.Errorf("%v was taken", list)
		}
	}
}
