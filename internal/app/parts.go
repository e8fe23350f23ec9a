package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/klog/v2"
)

// parts are the parts of the daemon that run until it ends. They end one after the other: those of the list
// first first, in its order, then the others in the reverse order of their start. So the API server outlives
// its clients, and the store the API server, although all of them start side by side.
type parts struct {
	first   []string
	mu      sync.Mutex
	running []*part
	failed  chan error
}

type part struct {
	name string
	stop func()
	done chan struct{}
}

func newParts(first ...string) *parts {
	return &parts{first: first, failed: make(chan error, 1)}
}

// start runs a part until it is stopped. When it ends by itself, its error is the daemon's.
func (s *parts) start(ctx context.Context, name string, run func(context.Context) error) {
	// A part is stopped in its turn, not when the daemon's context ends.
	ctx, cancel := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), klog.FromContext(ctx).WithName(name)))
	part := &part{name: name, stop: cancel, done: make(chan struct{})}
	s.add(part)
	go func() {
		defer close(part.done)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		s.fail(fmt.Errorf("%s: %w", name, err))
	}()
}

// closer adds something that is closed in its turn.
func (s *parts) closer(name string, closeIt func() error) {
	part := &part{name: name, done: make(chan struct{})}
	part.stop = func() {
		defer close(part.done)
		if err := closeIt(); err != nil {
			klog.Background().Error(err, "Could not close a part of the daemon", "part", name)
		}
	}
	s.add(part)
}

func (s *parts) add(part *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, part)
}

// fail ends the daemon with the first error it is given.
func (s *parts) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// wait returns nil when the context ends, or the error of a part that ended by itself.
func (s *parts) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// stop ends every part in its turn, and returns when all have ended.
func (s *parts) stop() {
	s.mu.Lock()
	parts := s.running
	s.running = nil
	s.mu.Unlock()
	slices.Reverse(parts)
	rank := func(p *part) int {
		if i := slices.Index(s.first, p.name); i >= 0 {
			return i
		}
		return len(s.first)
	}
	slices.SortStableFunc(parts, func(a, b *part) int { return cmp.Compare(rank(a), rank(b)) })
	for _, p := range parts {
		p.stop()
		<-p.done
	}
}
