package cri

import (
	"context"
	"sync"
)

// creates lets a create that outlives its caller be handed to the caller's next try: two creates of one key are one.
type creates struct {
	mu      sync.Mutex
	pending map[string]*create
}

type create struct {
	done chan struct{}
	id   string
	err  error
}

func newCreates() *creates { return &creates{pending: map[string]*create{}} }

// do runs make, or joins the one that runs for this key, and waits for it or for ctx's end. make gets a context that
// ctx's end does not end.
func (c *creates) do(ctx context.Context, key string, make func(context.Context) (string, error)) (string, error) {
	c.mu.Lock()
	p, ok := c.pending[key]
	if !ok {
		p = &create{done: newDone()}
		c.pending[key] = p
		go func() {
			p.id, p.err = make(context.WithoutCancel(ctx))
			c.mu.Lock()
			delete(c.pending, key)
			c.mu.Unlock()
			close(p.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.id, p.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func newDone() chan struct{} { return make(chan struct{}) }
