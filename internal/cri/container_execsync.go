package cri

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

const (
	// maxSyncOutput is how many bytes of each stream ExecSync keeps for a client of the socket, and is what CRI says
	// (api.proto, ExecSyncResponse); the rest is read and dropped.
	maxSyncOutput = 16 << 20
	// maxLocalOutput is the same for the node agent. It asks for probes, which use 10 KiB, and hooks, whose output
	// goes into a message; there may be hundreds at a time, and their output is what a Pod likes it to be.
	maxLocalOutput = 32 << 10
	// maxSyncTotal is how many bytes all calls together keep; one that finds no room drops its output.
	maxSyncTotal = 64 << 20
	// maxLateOutput is how long the output of a process that has ended is read while another one still writes to it,
	// when the call has no time-out.
	maxLateOutput = 10 * time.Second
)

// ExecSync runs a command in a container and returns its output and exit code. When the timeout (seconds, 0 for
// none) passes, the command is killed and the error's code is DeadlineExceeded.
func (r *Runtime) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	return r.execSync(ctx, req.GetContainerId(), req.GetCmd(), time.Duration(req.GetTimeout())*time.Second, maxSyncOutput)
}

// execSync keeps at most keep bytes of each stream. It returns at the timeout, whether the command runs or has left
// a process that holds its output open.
func (r *Runtime) execSync(ctx context.Context, id string, cmd []string, timeout time.Duration, keep int64) (*runtimeapi.ExecSyncResponse, error) {
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
	stdout, err := newCollector(keep, &r.syncRoom)
	if err != nil {
		return nil, err
	}
	defer stdout.close()
	stderr, err := newCollector(keep, &r.syncRoom)
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
	late := time.NewTimer(maxLateOutput)
	defer late.Stop()
	for _, c := range []*collector{stdout, stderr} {
		c.r.end()
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil, timedOut(ctx, cmd)
		case <-late.C:
			late.Reset(0) // for the other one
			c.stop()
		}
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes(), ExitCode: int32(exit.Code)}, nil
}

// timedOut says that the command took too long, or that the caller has gone.
func timedOut(ctx context.Context, cmd []string) error {
	code := codes.Canceled
	if context.Cause(ctx) == context.DeadlineExceeded {
		code = codes.DeadlineExceeded
	}
	return status.Errorf(code, "failed to exec %q in container: %v", cmd, ctx.Err())
}

// collector keeps the beginning of what is written to a pipe.
type collector struct {
	r     *output
	w     *os.File
	keep  int64
	room  *room
	buf   bytes.Buffer // once done is closed
	began bool
	done  chan struct{}
}

func newCollector(keep int64, room *room) (*collector, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &collector{r: &output{File: r}, w: w, keep: keep, room: room, done: make(chan struct{})}, nil
}

// collect begins to read; the writing end is another process's now.
func (c *collector) collect() {
	_ = c.w.Close()
	c.began = true
	go func() {
		defer close(c.done)
		_, _ = io.Copy(c, c.r)
	}()
}

// Write keeps what there is room for and drops the rest.
func (c *collector) Write(b []byte) (int, error) {
	n := c.room.take(min(int64(len(b)), c.keep-int64(c.buf.Len())))
	c.buf.Write(b[:n])
	return len(b), nil
}

// stop ends the reading and waits for that.
func (c *collector) stop() {
	_ = c.r.Close()
	<-c.done
}

// close gives the room back; the reading has ended or ends with it.
func (c *collector) close() {
	_ = c.w.Close()
	_ = c.r.Close()
	if c.began {
		<-c.done
	}
	c.room.give(int64(c.buf.Len()))
}

// room is what all collectors together may keep, in bytes.
type room struct{ used atomic.Int64 }

// take returns how much of n there is room for.
func (r *room) take(n int64) int64 {
	if n <= 0 {
		return 0
	}
	if over := r.used.Add(n) - maxSyncTotal; over > 0 {
		over = min(over, n)
		r.used.Add(-over)
		n -= over
	}
	return n
}

func (r *room) give(n int64) { r.used.Add(-n) }
