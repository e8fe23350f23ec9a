package cri

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// killTimeout is how long a killed container may take to be gone.
const killTimeout = 2 * time.Minute

// StopContainer asks the container to end by its stop signal, kills it when the timeout (seconds) has passed, and
// returns when it has ended and its cgroup is gone: what is above may then shrink. It is no error if it does not run, or
// is gone.
func (r *Runtime) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.StopContainerResponse{}, nil
	}
	if err == nil {
		err = r.stopContainer(ctx, c, time.Duration(req.GetTimeout())*time.Second)
	}
	if err != nil {
		return nil, err
	}
	if c.get().State == stateExited {
		select {
		case <-c.cleared:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the cgroup of container %q to be cleared: %w", c.ID, ctx.Err())
		}
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (r *Runtime) stopContainer(ctx context.Context, c *container, grace time.Duration) error {
	c.op.Lock() // a start under way comes first
	st := c.get().State
	c.op.Unlock()
	if st != stateRunning {
		return nil
	}
	if grace > 0 {
		if err := r.signal(ctx, c, signalNumber(c.StopSignal), false); err != nil {
			return fmt.Errorf("failed to stop container %q: %w", c.ID, err)
		}
		if ended, err := r.await(ctx, c, grace); ended || err != nil {
			return err
		}
	}
	if err := r.signal(ctx, c, unix.SIGKILL, true); err != nil {
		return fmt.Errorf("failed to kill container %q: %w", c.ID, err)
	}
	ended, err := r.await(ctx, c, killTimeout)
	if err == nil && !ended {
		err = fmt.Errorf("container %q was killed but has not ended within %v", c.ID, killTimeout)
	}
	return err
}

// signal sends a signal by the shim. That the shim is gone is no error: watch kills what it leaves.
func (r *Runtime) signal(ctx context.Context, c *container, sig unix.Signal, all bool) error {
	c.sandbox.mu.Lock()
	sh := c.sandbox.shim
	c.sandbox.mu.Unlock()
	if sh == nil {
		r.orphaned(ctx, c)
		return nil
	}
	err := sh.Signal(ctx, shim.SignalRequest{Container: c.ID, Signal: int(sig), All: all})
	if errors.Is(err, shim.ErrGone) || errors.Is(err, shim.ErrNotFound) {
		return nil
	}
	return err
}

// await reports whether the container ends within the time.
func (r *Runtime) await(ctx context.Context, c *container, d time.Duration) (bool, error) {
	t := r.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.ended:
		return true, nil
	case <-t.C():
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("wait for the end of container %q: %w", c.ID, ctx.Err())
	}
}
