package probe

import (
	"context"
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// A command that dies with its container says nothing about it, for it is the kernel that kills it: just before the
// container's end is known. One that is killed every time has failed.
func TestKilledCommandIsAskedAgain(t *testing.T) {
	gone := errors.New("container is in CONTAINER_EXITED state")
	for name, tc := range map[string]struct {
		says []error
		want result
	}{
		"died with its container":  {[]error{exit(137), gone, gone}, unknown},
		"killed, and then well":    {[]error{exit(137), nil}, succeeded},
		"killed, and then not":     {[]error{exit(137), exit(1)}, failed},
		"killed every time":        {[]error{exit(137), exit(137), exit(137)}, failed},
		"failed of its own accord": {[]error{exit(1)}, failed},
	} {
		asked := 0
		a := newAsker(scripted{exec: func(context.Context, string, []string, time.Duration) ([]byte, []byte, error) {
			asked++
			return nil, nil, tc.says[asked-1]
		}})
		got := a.ask(t.Context(), execProbe("probe", v1.Probe{}), &v1.Container{Name: "c"}, Target{ID: "id"})
		if got.result != tc.want || asked != len(tc.says) {
			t.Errorf("%s: %s after %d of %d", name, got.result, asked, len(tc.says))
		}
	}
}
