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

// RemoveContainer kills the container if need be and removes it. It is no error if it is gone. Its log stays: it is the
// caller's.
func (r *Runtime) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	if err == nil {
		err = r.removeContainer(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *Runtime) removeContainer(ctx context.Context, c *container) error {
	if err := r.stopContainer(ctx, c, 0); err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if err := r.cleanContainer(ctx, c); err != nil {
		return fmt.Errorf("failed to remove container %q: %w", c.ID, err)
	}
	if _, err := r.store.container(c.ID); err != nil {
		return nil // another was faster
	}
	r.store.dropContainer(c.ID)
	r.emit(c.ID, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}

// cleanContainer leaves nothing of a container that does not run, whatever of it was made. Its record goes last.
func (r *Runtime) cleanContainer(ctx context.Context, c *container) error {
	c.sandbox.mu.Lock()
	sh := c.sandbox.shim
	c.sandbox.mu.Unlock()
	if sh != nil {
		_ = sh.Forget(ctx, c.ID) // if it is gone, so is its memory
	}
	err := r.machine.ClearCgroup(ctx, c.Cgroup)
	err = errors.Join(err, r.cfg.Images.RemoveRootfs(ctx, c.ID))
	for n := range imageMounts(c) {
		err = errors.Join(err, r.cfg.Images.RemoveRootfs(ctx, imageKey(c.ID, n)))
	}
	if err != nil {
		return err
	}
	r.layers.forget(c.ID)
	return errors.Join(os.RemoveAll(r.bundleDir(c.ID)), os.RemoveAll(r.containerDir(c.ID)))
}

// imageMounts are those of the container's mounts that are images.
func imageMounts(c *container) []*runtimeapi.Mount {
	var out []*runtimeapi.Mount
	for _, m := range c.config.GetMounts() {
		if m.GetImage().GetImage() != "" {
			out = append(out, m)
		}
	}
	return out
}
