package cri

import (
	"context"
	"errors"
	"sync"
)

// creates makes two creates of one key one, so that a create that outlives a caller whose time is up is handed to the
// caller's next try. A create that every caller has cancelled is cut short, and the last caller waits for its end: when
// the call has returned, nothing is being made any more.
type creates struct {
	mu      sync.Mutex
	pending map[string]*create
}

// create is a create under way. Its callers and abandoned are guarded by the lock of creates.
type create struct {
	done      chan struct{}
	id        string
	err       error
	cancel    context.CancelFunc
	callers   int
	abandoned bool
}

func newCreates() *creates { return &creates{pending: map[string]*create{}} }

// do runs make, or joins the one that runs for this key, and waits for it or for ctx's end. make gets a context that
// only the cancellation of all callers ends.
func (c *creates) do(ctx context.Context, key string, make func(context.Context) (string, error)) (string, error) {
	for {
		p, joined := c.join(ctx, key, make)
		if !joined {
			// What it makes is being undone for another caller; this one wants it made.
			select {
			case <-p.done:
				continue
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		select {
		case <-p.done:
			return p.id, p.err
		case <-ctx.Done():
		}
		if !c.leave(p, ctx.Err()) {
			return "", ctx.Err()
		}
		<-p.done
		return p.id, p.err
	}
}

// join begins a create, or adds a caller to the one under way. It reports false for one that is abandoned.
func (c *creates) join(ctx context.Context, key string, make func(context.Context) (string, error)) (*create, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pending[key]; ok {
		if !p.abandoned {
			p.callers++
		}
		return p, !p.abandoned
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &create{done: newDone(), cancel: cancel, callers: 1}
	c.pending[key] = p
	go func() {
		defer cancel()
		p.id, p.err = make(run)
		c.mu.Lock()
		delete(c.pending, key)
		c.mu.Unlock()
		close(p.done)
	}()
	return p, true
}

// leave takes a caller away, and reports whether the create is cut short with that: the caller was the last one, and
// has cancelled. A caller whose time is up will try again, and is to find what was made.
func (c *creates) leave(p *create, why error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.callers--
	if p.callers > 0 || !errors.Is(why, context.Canceled) {
		return false
	}
	p.abandoned = true
	p.cancel()
	return true
}

func newDone() chan struct{} { return make(chan struct{}) }
