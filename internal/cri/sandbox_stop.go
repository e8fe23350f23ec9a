package cri

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StopPodSandbox ends all containers of the sandbox at once, takes its network away and ends pause and the shim. It is
// no error if the sandbox is stopped, or gone, already.
func (r *Runtime) StopPodSandbox(ctx context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.StopPodSandboxResponse{}, nil
	}
	if err == nil {
		err = r.stopSandbox(ctx, sb)
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// stopSandbox does it; again after a failure it does what is left.
func (r *Runtime) stopSandbox(ctx context.Context, sb *sandbox) error {
	sb.op.Lock()
	defer sb.op.Unlock()
	if err := r.haltSandbox(ctx, sb); err != nil {
		return fmt.Errorf("failed to stop sandbox %q: %w", sb.ID, err)
	}
	return r.markNotReady(sb)
}

// haltSandbox ends all processes of the sandbox and gives back its network. It is idempotent, safe at any point of a
// start, runs all its parts and joins their errors.
func (r *Runtime) haltSandbox(ctx context.Context, sb *sandbox) error {
	err := r.stopContainersOf(ctx, sb, 0)
	if sb.NetNS != "" {
		netns := sb.NetNS
		if _, serr := r.host.Stat(netns); serr != nil {
			netns = ""
		}
		if terr := r.cfg.Network.Teardown(ctx, sb.ID, netns); terr != nil {
			err = errors.Join(err, fmt.Errorf("take down the network: %w", terr))
		}
	}
	err = errors.Join(err, r.stopShim(ctx, sb))
	if cerr := r.machine.ClearCgroup(ctx, sb.Cgroup); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if sb.NetNS != "" {
		err = errors.Join(err, r.unpin(sb.NetNS))
	}
	return err
}

// stopShim ends the shim and pause. Without a connection there may still be a shim, if a start was cut short.
func (r *Runtime) stopShim(ctx context.Context, sb *sandbox) error {
	sb.mu.Lock()
	sh := sb.shim
	sb.halting = true
	sb.mu.Unlock()
	if sh == nil {
		var err error
		if sh, err = r.launcher.Connect(ctx, r.shimDir(sb.ID)); err != nil {
			return nil // none runs
		}
	}
	err := sh.Stop(ctx)
	if err == nil {
		_ = sh.Close()
		sb.mu.Lock()
		if sb.shim == sh {
			sb.shim = nil
		}
		sb.mu.Unlock()
	}
	return err
}

// markNotReady notes that the sandbox is stopped and tells so, once.
func (r *Runtime) markNotReady(sb *sandbox) error {
	sb.mu.Lock()
	if !sb.state.Ready {
		sb.mu.Unlock()
		return nil
	}
	sb.state.Ready = false
	sb.state.StoppedAt = r.clock.Now()
	err := r.saveSandboxLocked(sb)
	sb.mu.Unlock()
	r.emit(sb.ID, sb, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return err
}

// stopContainersOf stops all containers of a sandbox at the same time.
func (r *Runtime) stopContainersOf(ctx context.Context, sb *sandbox, grace time.Duration) error {
	list := r.store.containersOf(sb.ID)
	errs := make(chan error, len(list))
	for _, c := range list {
		go func() { errs <- r.stopContainer(ctx, c, grace) }()
	}
	var err error
	for range list {
		err = errors.Join(err, <-errs)
	}
	return err
}
