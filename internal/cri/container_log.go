package cri

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ReopenContainerLog has the log file opened again, after it was moved away. On an error none was made.
func (r *Runtime) ReopenContainerLog(ctx context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.get().State != stateRunning {
		return nil, status.Error(codes.FailedPrecondition, "container is not running")
	}
	sh, err := c.sandbox.live()
	if err != nil {
		return nil, err
	}
	if err := sh.ReopenLog(ctx, c.ID); err != nil {
		return nil, fmt.Errorf("reopen the log of container %q: %w", c.ID, err)
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
