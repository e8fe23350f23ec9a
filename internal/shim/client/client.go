// Package client is the daemon's end of a shim: it starts shims, finds those that run, and speaks to them.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"podium.dev/podium/internal/shim"
)

// client is one connection. It implements shim.Shim.
type client struct {
	conn   *shim.Conn
	events chan shim.Event
	gone   chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	next   uint64
	wait   map[uint64]chan<- reply
	closed bool // by Close, or by the other end
}

type reply struct {
	frame *shim.Frame
	files []*os.File
}

// newClient takes over the connection.
func newClient(conn *shim.Conn) *client {
	c := &client{conn: conn, events: make(chan shim.Event, 16), gone: make(chan struct{}), wait: map[uint64]chan<- reply{}}
	go c.read()
	return c
}

// read hands replies to who waits for them and events to the channel, until the connection ends.
func (c *client) read() {
	defer close(c.events)
	defer c.finish()
	for {
		fr, files, err := c.conn.Read()
		if err != nil {
			return
		}
		if fr.ID == 0 {
			var e shim.Event
			if json.Unmarshal(fr.Body, &e) == nil {
				c.events <- e
			}
			continue
		}
		c.mu.Lock()
		ch := c.wait[fr.ID]
		delete(c.wait, fr.ID)
		c.mu.Unlock()
		if ch == nil {
			closeAll(files) // the caller has given up
			continue
		}
		ch <- reply{fr, files}
	}
}

// finish fails all that wait.
func (c *client) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	_ = c.conn.Close()
	close(c.gone)
	clear(c.wait)
}

// call sends a request and waits for its reply, whose body goes into out when out is not nil.
func (c *client) call(ctx context.Context, method string, in, out any, files ...*os.File) ([]*os.File, error) {
	fr := &shim.Frame{Method: method}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		fr.Body = body
	}
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", method, shim.ErrGone)
	}
	c.next++
	fr.ID = c.next
	c.wait[fr.ID] = ch
	c.mu.Unlock()
	if err := c.conn.Write(fr, files...); err != nil {
		c.drop(fr.ID)
		return nil, fmt.Errorf("%s: %w (%w)", method, shim.ErrGone, err)
	}
	select {
	case r := <-ch:
		return c.open(method, r, out)
	case <-c.gone:
		select {
		case r := <-ch:
			return c.open(method, r, out)
		default:
			return nil, fmt.Errorf("%s: %w", method, shim.ErrGone)
		}
	case <-ctx.Done():
		c.drop(fr.ID)
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// drop lets a reply that may still come go to nobody.
func (c *client) drop(id uint64) {
	c.mu.Lock()
	delete(c.wait, id)
	c.mu.Unlock()
}

func (c *client) open(method string, r reply, out any) ([]*os.File, error) {
	if e := r.frame.Error; e != nil {
		closeAll(r.files)
		switch e.Kind {
		case shim.KindNotFound:
			return nil, fmt.Errorf("%s (%w)", e.Message, shim.ErrNotFound)
		case shim.KindStart:
			return nil, &shim.StartError{Message: e.Message}
		}
		return nil, fmt.Errorf("the Pod's shim: %s", e.Message)
	}
	if out != nil {
		if err := json.Unmarshal(r.frame.Body, out); err != nil {
			closeAll(r.files)
			return nil, fmt.Errorf("decode the shim's reply to %s: %w", method, err)
		}
	}
	return r.files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// do is call for what takes and gives no files.
func (c *client) do(ctx context.Context, method string, in, out any) error {
	files, err := c.call(ctx, method, in, out)
	closeAll(files)
	return err
}

func (c *client) State(ctx context.Context) (st shim.State, err error) {
	return st, c.do(ctx, shim.MethodState, nil, &st)
}

func (c *client) Run(ctx context.Context, req shim.RunRequest) (res shim.RunResult, err error) {
	return res, c.do(ctx, shim.MethodRun, req, &res)
}

func (c *client) Exec(ctx context.Context, req shim.ExecRequest, files ...*os.File) (res shim.ExecResult, err error) {
	_, err = c.call(ctx, shim.MethodExec, req, &res, files...)
	return res, err
}

func (c *client) Attach(ctx context.Context, req shim.AttachRequest, stdout, stderr *os.File) (shim.Attachment, error) {
	var files []*os.File
	if req.Stdout = stdout != nil; req.Stdout {
		files = append(files, stdout)
	}
	if req.Stderr = stderr != nil; req.Stderr {
		files = append(files, stderr)
	}
	endR, endW, err := os.Pipe()
	if err != nil {
		return shim.Attachment{}, err
	}
	req.End = true
	got, err := c.call(ctx, shim.MethodAttach, req, nil, append(files, endW)...)
	_ = endW.Close()
	if err != nil {
		_ = endR.Close()
		return shim.Attachment{}, err
	}
	a := shim.Attachment{End: readEnd(endR, c.gone)}
	if len(got) > 0 {
		a.Stdin = got[0]
		closeAll(got[1:])
	}
	return a, nil
}

// maxAttachEnd bounds what is read of an attachment's end, in bytes: two numbers.
const maxAttachEnd = 1 << 10

// readEnd reads how an attachment ended, until the connection to the shim ends.
func readEnd(r *os.File, gone <-chan struct{}) <-chan shim.AttachEnd {
	ch, done := make(chan shim.AttachEnd, 1), make(chan struct{})
	go func() {
		select {
		case <-gone:
			_ = r.SetReadDeadline(time.Now().Add(endGrace))
		case <-done:
		}
	}()
	go func() {
		defer close(ch)
		defer close(done)
		defer r.Close()
		var end shim.AttachEnd
		if json.NewDecoder(io.LimitReader(r, maxAttachEnd)).Decode(&end) == nil {
			ch <- end
		}
	}()
	return ch
}

// endGrace is how long the end of an attachment is waited for after the connection to the shim has ended. The shim's
// last words are in the pipe by then.
const endGrace = time.Second

func (c *client) Signal(ctx context.Context, req shim.SignalRequest) error {
	return c.do(ctx, shim.MethodSignal, req, nil)
}

func (c *client) ReopenLog(ctx context.Context, container string) error {
	return c.do(ctx, shim.MethodReopen, shim.ContainerRef{Container: container}, nil)
}

func (c *client) LimitLogs(ctx context.Context, limits shim.LogLimits) error {
	return c.do(ctx, shim.MethodLimitLogs, limits, nil)
}

func (c *client) Forget(ctx context.Context, container string) error {
	return c.do(ctx, shim.MethodForget, shim.ContainerRef{Container: container}, nil)
}

// Stop is done when the shim is gone.
func (c *client) Stop(ctx context.Context) error {
	err := c.do(ctx, shim.MethodStop, nil, nil)
	if err != nil && !c.isClosed() {
		return err
	}
	select {
	case <-c.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the shim's end: %w", ctx.Err())
	}
}

func (c *client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *client) Events() <-chan shim.Event { return c.events }

func (c *client) Close() error {
	err := c.conn.Close()
	<-c.gone
	return err
}
