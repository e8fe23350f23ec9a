package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers lists those that the filter lets pass, the oldest first.
func (r *Runtime) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	return &runtimeapi.ListContainersResponse{Containers: r.listContainers(req.GetFilter())}, nil
}

func (r *Runtime) listContainers(f *runtimeapi.ContainerFilter) []*runtimeapi.Container {
	var out []*runtimeapi.Container
	for _, c := range r.store.allContainers() {
		st := c.get()
		if !passes(c.ID, f.GetId()) || !passes(c.SandboxID, f.GetPodSandboxId()) || !matches(c.config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		if f.GetState() != nil && f.GetState().GetState() != criState(st.State) {
			continue
		}
		out = append(out, &runtimeapi.Container{
			Id: c.ID, PodSandboxId: c.SandboxID, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(), ImageRef: c.ImageID,
			ImageId: c.ImageID, State: criState(st.State), CreatedAt: c.CreatedAt.UnixNano(),
			Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	return out
}

// passes reports whether an ID is the one that is asked for, or begins with it; nothing asked for lets all pass.
func passes(id, want string) bool {
	return want == "" || id == want || len(want) < len(id) && id[:len(want)] == want
}

// matches reports whether the labels have all that the selector has.
func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
