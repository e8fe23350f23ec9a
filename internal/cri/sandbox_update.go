package cri

import (
	"context"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdatePodSandboxResources takes note of the Pod's resources after its cgroup was changed. There is nothing to change
// in the sandbox itself: pause is below the Pod's cgroup.
func (r *Runtime) UpdatePodSandboxResources(_ context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	overhead, err := proto.Marshal(req.GetOverhead())
	if err != nil {
		return nil, err
	}
	resources, err := proto.Marshal(req.GetResources())
	if err != nil {
		return nil, err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.state.Overhead, sb.state.Resources = overhead, resources
	if err := r.saveSandboxLocked(sb); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
