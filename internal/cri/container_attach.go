package cri

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"podium.dev/podium/internal/shim"
)

// Attach returns the URL at which the container's streams are.
func (r *Runtime) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.attachable(req.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streaming.GetAttach(req)
}

func (r *Runtime) attachable(id string) (*container, error) {
	c, err := r.store.container(id)
	if err != nil {
		return nil, err
	}
	if st := c.get().State; st != stateRunning {
		return nil, status.Errorf(codes.FailedPrecondition, "container is in %s state", criState(st))
	}
	return c, nil
}

// attachStreams connects the streams, any of which may be nil, to the container's until it ends, the client has left,
// or ctx ends. The container does not notice. A client that the end cut off before it was sent anything, or that was
// too slow, gets an error: kubectl turns to the log then, which is whole.
func (r *Runtime) attachStreams(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommandserver.TerminalSize) error {
	c, err := r.attachable(id)
	if err != nil {
		return err
	}
	c.sandbox.mu.Lock()
	sh := c.sandbox.shim
	c.sandbox.mu.Unlock()
	if sh == nil {
		return fmt.Errorf("attach to container %q: %w", c.ID, shim.ErrGone)
	}
	var copies outputCopies
	defer copies.close()
	outW, err := copies.open(out)
	if err != nil {
		return err
	}
	errW, err := copies.open(errs)
	if err != nil {
		return err
	}
	attached, err := sh.Attach(ctx, shim.AttachRequest{Container: c.ID, Stdin: in != nil}, outW, errW)
	for _, w := range []*os.File{outW, errW} {
		if w != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("attach to container %q: %w", c.ID, err)
	}
	if stdin := attached.Stdin; stdin != nil {
		defer stdin.Close()
		stop := followSize(ctx, stdin, sizes(c, resize))
		defer stop()
		go feed(stdin, in)
	}
	if outW == nil && errW == nil { // only stdin: until the container ends
		select {
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	left := make(chan struct{})
	go func() {
		copies.wait.Wait() // the shim closes the pipes when the container has ended
		close(left)
	}()
	select {
	case <-left:
	case <-ctx.Done():
		return ctx.Err()
	}
	if copies.gone.Load() {
		return nil // the client has left
	}
	select {
	case end, ok := <-attached.End:
		return cutOff(c.ID, copies.sent.Load(), end, ok)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outputCopies move an attached container's output to the client.
type outputCopies struct {
	files []*os.File
	wait  sync.WaitGroup
	sent  atomic.Int64
	gone  atomic.Bool // the client does not take any more
}

// open returns the writing end of a pipe whose content goes to the client; nil for no client.
func (c *outputCopies) open(to io.Writer) (*os.File, error) {
	if to == nil {
		return nil, nil
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, pr, pw)
	c.wait.Go(func() {
		n, err := io.Copy(to, pr)
		c.sent.Add(n)
		if err != nil {
			c.gone.Store(true)
		}
		_ = pr.Close() // to a client that is gone nothing need be sent
	})
	return pw, nil
}

func (c *outputCopies) close() { closeFiles(c.files) }

// cutOff returns the error of an attachment that the container's end, or the shim, has cut off. One that was sent
// nothing because the container had written all before it came must not look like one to a silent container: for
// `kubectl run -i`, which comes when the container runs, that is a matter of milliseconds. A shim of an older version
// does not report the end (known is false).
func cutOff(id string, sent int64, end shim.AttachEnd, known bool) error {
	switch {
	case end.Slow:
		return fmt.Errorf("detached from container %q after %d bytes: the client does not read fast enough, and the container does not wait for it; its log has all of its output", id, sent)
	case sent == 0 && (end.Before > 0 || !known):
		return fmt.Errorf("container %q ended before anything was sent; its log has all of its output", id)
	}
	return nil
}

// sizes are of use for a terminal only.
func sizes(c *container, resize <-chan remotecommandserver.TerminalSize) <-chan remotecommandserver.TerminalSize {
	if c.config.GetTty() {
		return resize
	}
	return nil
}

// feed copies into the container's stdin and lets go of it at the end. For a stdin that is open once that is its end.
func feed(stdin *os.File, in io.Reader) {
	_, _ = io.Copy(stdin, in)
	_ = stdin.Close()
}
