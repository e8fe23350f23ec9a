package cri

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"podium.dev/podium/internal/shim"
)

// Attach answers with the URL at which the container's streams are.
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

// attachStreams connects the streams, any of which may be nil, to the container's until it ends, the one who is
// attached has left, or ctx ends. The container does not notice.
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
	var copies sync.WaitGroup
	var ends []*os.File
	defer func() { closeFiles(ends) }()
	open := func(to io.Writer) (*os.File, error) {
		if to == nil {
			return nil, nil
		}
		pr, pw, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ends = append(ends, pr, pw)
		copies.Add(1)
		go func() {
			defer copies.Done()
			_, _ = io.Copy(to, pr)
			_ = pr.Close() // to a client that is gone nothing need be sent
		}()
		return pw, nil
	}
	outW, err := open(out)
	if err != nil {
		return err
	}
	errW, err := open(errs)
	if err != nil {
		return err
	}
	stdin, err := sh.Attach(ctx, shim.AttachRequest{Container: c.ID, Stdin: in != nil}, outW, errW)
	for _, w := range []*os.File{outW, errW} {
		if w != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("attach to container %q: %w", c.ID, err)
	}
	if stdin != nil {
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
		copies.Wait() // the shim closes the pipes when the container has ended
		close(left)
	}()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
