package cri

import (
	"context"
	"encoding/json"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim/bundle"
)

// ContainerStatus says how a container is.
func (r *Runtime) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.ContainerStatusResponse{Status: r.containerStatus(c)}
	if req.GetVerbose() {
		words := map[string]any{"sandboxID": c.SandboxID, "pid": c.get().PID, "cgroup": c.Cgroup, "bundle": r.bundleDir(c.ID)}
		if b, err := bundle.Read(r.bundleDir(c.ID)); err == nil { // else it was never made
			words["runtimeSpec"] = b.Spec // containerd's name for it
		}
		info, err := json.Marshal(words)
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(info)}
	}
	return out, nil
}

func (r *Runtime) containerStatus(c *container) *runtimeapi.ContainerStatus {
	st := c.get()
	out := &runtimeapi.ContainerStatus{
		Id: c.ID, Metadata: c.config.GetMetadata(), State: criState(st.State),
		CreatedAt: c.CreatedAt.UnixNano(), ExitCode: int32(st.ExitCode), Reason: st.Reason, Message: st.Message,
		Image: &runtimeapi.ImageSpec{
			Image: c.ImageName, UserSpecifiedImage: c.config.GetImage().GetUserSpecifiedImage(), Annotations: c.config.GetImage().GetAnnotations(),
		},
		ImageRef: c.ImageRef, ImageId: c.ImageID, Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		Mounts: c.config.GetMounts(), LogPath: c.LogPath, StopSignal: criSignal(c.StopSignal),
	}
	if !st.StartedAt.IsZero() {
		out.StartedAt = st.StartedAt.UnixNano()
	}
	if !st.FinishedAt.IsZero() {
		out.FinishedAt = st.FinishedAt.UnixNano()
	}
	if res := decodeResources(st.Resources); res != nil {
		out.Resources = &runtimeapi.ContainerResources{Linux: res}
	}
	if st.HasUser {
		user := &runtimeapi.LinuxContainerUser{Uid: int64(st.UID), Gid: int64(st.GID)}
		for _, g := range st.Groups {
			user.SupplementalGroups = append(user.SupplementalGroups, int64(g))
		}
		out.User = &runtimeapi.ContainerUser{Linux: user}
	}
	return out
}

func criState(s string) runtimeapi.ContainerState {
	switch s {
	case stateCreated:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case stateRunning:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	case stateExited:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	default:
		return runtimeapi.ContainerState_CONTAINER_UNKNOWN
	}
}

// decodeResources is nil for nothing that is set.
func decodeResources(data []byte) *runtimeapi.LinuxContainerResources {
	if len(data) == 0 {
		return nil
	}
	res := &runtimeapi.LinuxContainerResources{}
	if proto.Unmarshal(data, res) != nil {
		return nil
	}
	return res
}
