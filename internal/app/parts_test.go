package app

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestServicesStopInTurn(t *testing.T) {
	s := newParts("api", "node")
	var ended []string
	for _, name := range []string{"store", "api", "node"} {
		s.start(t.Context(), name, func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name) // one at a time, or the race detector says so
			return ctx.Err()
		})
	}
	s.closer("last", func() error { ended = append(ended, "last"); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.wait(ctx); err != nil {
		t.Error(err)
	}
	s.stop()
	if got := strings.Join(ended, " "); got != "api node last store" {
		t.Errorf("ended in the order %s", got)
	}
}

func TestServicesFailWithThePart(t *testing.T) {
	s := newParts()
	s.start(t.Context(), "store", func(context.Context) error { return errors.New("disk full") })
	if err := s.wait(t.Context()); err == nil || err.Error() != "store: disk full" {
		t.Errorf("got %v", err)
	}
	s.stop()
}
