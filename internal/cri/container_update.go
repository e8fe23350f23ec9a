package cri

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/shim/bundle"
)

// UpdateContainerResources changes the limits of a container that runs, or with which one that was created will be
// started. What is zero stays as it is.
func (r *Runtime) UpdateContainerResources(_ context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if req.GetLinux() == nil {
		return &runtimeapi.UpdateContainerResourcesResponse{}, nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	st := c.get()
	merged := mergeResources(decodeResources(st.Resources), req.GetLinux())
	switch st.State {
	case stateRunning:
		err = r.machine.SetCgroup(c.Cgroup, r.cgroupResources(req.GetLinux()))
	case stateCreated:
		err = r.rewriteResources(c, merged)
	default:
		err = status.Error(codes.FailedPrecondition, "container is not running")
	}
	if err != nil {
		return nil, fmt.Errorf("failed to update resources of container %q: %w", c.ID, err)
	}
	encoded, err := proto.Marshal(merged)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Resources = encoded
	if err := r.saveContainerLocked(c); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// mergeResources puts what is set in change over what was.
func mergeResources(was, change *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	out := &runtimeapi.LinuxContainerResources{}
	if was != nil {
		out = proto.CloneOf(was)
	}
	unified := out.GetUnified()
	proto.Merge(out, change) // scalars that are zero do not overwrite; lists and maps are added to
	if len(change.GetHugepageLimits()) > 0 {
		out.HugepageLimits = change.GetHugepageLimits()
	}
	for k, v := range unified {
		if _, set := change.GetUnified()[k]; !set {
			out.Unified[k] = v
		}
	}
	return out
}

// cgroupResources is CRI's form in the cgroups' own.
func (r *Runtime) cgroupResources(l *runtimeapi.LinuxContainerResources) cgroup.Resources {
	res := cgroup.Resources{CPUSet: l.GetCpusetCpus(), MemSet: l.GetCpusetMems(), Unified: l.GetUnified()}
	if v := l.GetCpuShares(); v > 0 {
		res.CPUShares, res.CPUWeight = ptr.To(uint64(v)), ptr.To(cgroup.ContainerWeight(uint64(v)))
	}
	if v := l.GetCpuQuota(); v != 0 {
		res.CPUQuota = ptr.To(v)
	}
	if v := l.GetCpuPeriod(); v > 0 {
		res.CPUPeriod = ptr.To(uint64(v))
	}
	if v := l.GetMemoryLimitInBytes(); v != 0 {
		res.Memory = ptr.To(v)
		if r.host.Swap {
			res.MemorySwap = ptr.To(v) // together with memory: no swap
		}
	}
	if v := l.GetMemorySwapLimitInBytes(); v != 0 && r.host.Swap {
		res.MemorySwap = ptr.To(v)
	}
	for _, h := range l.GetHugepageLimits() {
		if res.HugePages == nil {
			res.HugePages = map[string]uint64{}
		}
		res.HugePages[h.GetPageSize()] = h.GetLimit()
	}
	return res
}

// rewriteResources puts the limits into the bundle of a container that was not started yet.
func (r *Runtime) rewriteResources(c *container, res *runtimeapi.LinuxContainerResources) error {
	b, err := bundle.Read(r.bundleDir(c.ID))
	if err != nil {
		return err
	}
	spec.SetResources(b.Spec, res, r.host)
	return bundle.Write(r.bundleDir(c.ID), b)
}
