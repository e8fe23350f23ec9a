package cri

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemovePodSandbox stops the sandbox if need be and removes it with its containers. It is no error if it is gone.
func (r *Runtime) RemovePodSandbox(ctx context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	if err == nil {
		err = r.removeSandbox(ctx, sb)
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *Runtime) removeSandbox(ctx context.Context, sb *sandbox) error {
	if err := r.stopSandbox(ctx, sb); err != nil {
		return err
	}
	sb.op.Lock()
	defer sb.op.Unlock()
	sb.mu.Lock()
	sb.removed = true
	sb.mu.Unlock()
	for _, c := range r.store.containersOf(sb.ID) {
		if err := r.removeContainer(ctx, c); err != nil {
			return fmt.Errorf("failed to remove sandbox %q: %w", sb.ID, err)
		}
	}
	if err := r.cleanHalf(ctx, sb); err != nil {
		return fmt.Errorf("failed to remove sandbox %q: %w", sb.ID, err)
	}
	if err := r.cleanSandbox(ctx, sb); err != nil {
		return fmt.Errorf("failed to remove sandbox %q: %w", sb.ID, err)
	}
	r.store.dropSandbox(sb.ID)
	r.emit(sb.ID, sb, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}

// cleanHalf leaves nothing of the containers whose creation failed. The sandbox takes no new ones any more.
func (r *Runtime) cleanHalf(ctx context.Context, sb *sandbox) error {
	sb.mu.Lock()
	half := sb.half
	sb.mu.Unlock()
	for _, c := range half {
		if err := r.cleanContainer(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// cleanSandbox leaves nothing of a sandbox, whatever of it was made. Its record goes last.
func (r *Runtime) cleanSandbox(ctx context.Context, sb *sandbox) error {
	if err := r.haltSandbox(ctx, sb); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(r.shimDir(sb.ID)), os.RemoveAll(r.sandboxDir(sb.ID)))
}

// unpin gives up a network namespace's name.
func (r *Runtime) unpin(file string) error {
	if err := r.machine.Unmount(file); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
