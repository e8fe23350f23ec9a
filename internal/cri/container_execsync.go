package cri

import (
	"bytes"
	"context"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// maxSyncOutput is how much of each stream ExecSync answers with; the rest is read and dropped.
const maxSyncOutput = 16 << 20

// ExecSync runs a command in a container and answers with its output and exit code. When the timeout (seconds, 0 for
// none) passes, the command is killed and the error's code is DeadlineExceeded.
func (r *Runtime) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	return r.execSync(ctx, req.GetContainerId(), req.GetCmd(), time.Duration(req.GetTimeout())*time.Second)
}

func (r *Runtime) execSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (*runtimeapi.ExecSyncResponse, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	stdout, err := newCollector()
	if err != nil {
		return nil, err
	}
	defer stdout.close()
	stderr, err := newCollector()
	if err != nil {
		return nil, err
	}
	defer stderr.close()
	p, err := r.exec(ctx, id, shim.ExecRequest{Args: cmd, WithCaller: true}, null, stdout.w, stderr.w)
	if err != nil {
		if ctx.Err() != nil {
			err = timedOut(ctx, cmd)
		}
		return nil, err
	}
	stdout.collect()
	stderr.collect()
	var exit shim.Exit
	select {
	case exit = <-p.exited:
	case <-ctx.Done():
		p.kill()
		return nil, timedOut(ctx, cmd)
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.finish(), Stderr: stderr.finish(), ExitCode: int32(exit.Code)}, nil
}

// timedOut says that the command took too long, or that the caller has gone.
func timedOut(ctx context.Context, cmd []string) error {
	code := codes.Canceled
	if context.Cause(ctx) == context.DeadlineExceeded {
		code = codes.DeadlineExceeded
	}
	return status.Errorf(code, "failed to exec %q in container: %v", cmd, ctx.Err())
}

// collector keeps what is written to a pipe.
type collector struct {
	r    *output
	w    *os.File
	buf  bytes.Buffer
	done chan struct{}
}

func newCollector() (*collector, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &collector{r: &output{File: r}, w: w, done: make(chan struct{})}, nil
}

// collect begins to read; the writing end is another process's now.
func (c *collector) collect() {
	_ = c.w.Close()
	go func() {
		defer close(c.done)
		_, _ = io.Copy(&c.buf, io.LimitReader(c.r, maxSyncOutput))
		_, _ = io.Copy(io.Discard, c.r)
	}()
}

// finish waits for the rest.
func (c *collector) finish() []byte {
	c.r.end()
	<-c.done
	return c.buf.Bytes()
}

func (c *collector) close() {
	_ = c.w.Close()
	_ = c.r.Close()
}
