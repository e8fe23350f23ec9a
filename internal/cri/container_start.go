package cri

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// What a container that could not be started says.
const (
	startErrorReason   = "StartError"
	startErrorExitCode = 128
)

// StartContainer starts a created container. One that cannot be started is Exited, with code 128 and the reason
// StartError.
func (r *Runtime) StartContainer(ctx context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := r.startContainer(context.WithoutCancel(ctx), c); err != nil {
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (r *Runtime) startContainer(ctx context.Context, c *container) error {
	c.op.Lock()
	defer c.op.Unlock()
	switch st := c.get(); st.State {
	case stateCreated:
	case stateRunning:
		return nil // asked again
	default:
		return status.Errorf(codes.FailedPrecondition, "failed to start container %q: container is in state %s", c.ID, st.State)
	}
	sh, err := c.sandbox.live()
	if err != nil {
		return err
	}
	var res shim.RunResult
	uid, name := c.sandbox.config.GetMetadata().GetUid(), c.config.GetMetadata().GetName()
	err = r.timed(uid, name, "container start", func() error {
		var err error
		res, err = sh.Run(ctx, shim.RunRequest{
			ID: c.ID, Dir: r.bundleDir(c.ID), LogPath: c.LogPath, ExitFile: filepath.Join(r.containerDir(c.ID), exitFile),
			Stdin: c.config.GetStdin(), StdinOnce: c.config.GetStdinOnce(), TTY: c.config.GetTty(), KillAll: c.KillAll,
		})
		return err
	})
	if err != nil {
		return r.notStarted(ctx, c, err)
	}
	for _, n := range res.Notes {
		r.note(strings.SplitN(n, " ", 2)[0], n)
	}
	return r.running(c, res)
}

// running notes a container's start, which its end may have overtaken.
func (r *Runtime) running(c *container, res shim.RunResult) error {
	c.mu.Lock()
	c.state.PID, c.state.StartedAt = res.PID, res.StartedAt
	c.state.UID, c.state.GID, c.state.Groups, c.state.HasUser = res.UID, res.GID, res.Groups, true
	if c.state.State == stateCreated {
		c.state.State = stateRunning
	}
	early := c.earlyExit
	c.earlyExit = nil
	err := r.saveContainerLocked(c)
	c.mu.Unlock()
	r.emit(c.ID, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if early != nil {
		r.exited(c, *early)
	}
	return err
}

// notStarted notes why a container could not be started.
func (r *Runtime) notStarted(ctx context.Context, c *container, why error) error {
	now := r.clock.Now()
	c.mu.Lock()
	c.state.State, c.state.StartedAt, c.state.FinishedAt = stateExited, now, now
	c.state.ExitCode, c.state.Reason, c.state.Message = startErrorExitCode, startErrorReason, why.Error()
	close(c.ended)
	err := r.saveContainerLocked(c)
	c.mu.Unlock()
	err = errors.Join(err, r.machine.ClearCgroup(ctx, c.Cgroup))
	close(c.cleared)
	if err != nil {
		r.log.Error(err, "Could not clean up after a container that did not start", "container", c.ID)
	}
	r.emit(c.ID, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return fmt.Errorf("failed to start container %q: %w", c.ID, why)
}
