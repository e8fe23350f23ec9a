package cri

import (
	"context"
	"encoding/json"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStatus says how a sandbox is, and, since CRI's events need it, how its containers are.
func (r *Runtime) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.PodSandboxStatusResponse{Status: r.sandboxStatus(sb), Timestamp: r.clock.Now().UnixNano()}
	for _, c := range r.store.containersOf(sb.ID) {
		out.ContainersStatuses = append(out.ContainersStatuses, r.containerStatus(c))
	}
	if req.GetVerbose() {
		info, err := json.Marshal(map[string]any{"pid": sb.get().PausePID, "netns": sb.NetNS, "cgroup": sb.Cgroup, "shim": r.shimDir(sb.ID)})
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(info)}
	}
	return out, nil
}

func (r *Runtime) sandboxStatus(sb *sandbox) *runtimeapi.PodSandboxStatus {
	st := sb.get()
	out := &runtimeapi.PodSandboxStatus{
		Id: sb.ID, Metadata: sb.config.GetMetadata(), State: criSandboxState(st), CreatedAt: sb.CreatedAt.UnixNano(),
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
		Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(), RuntimeHandler: sb.Handler,
	}
	// The addresses of a stopped sandbox are not its own any more.
	if st.Ready && len(st.IPs) > 0 {
		out.Network.Ip = st.IPs[0]
		for _, ip := range st.IPs[1:] {
			out.Network.AdditionalIps = append(out.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return out
}

func criSandboxState(st sandboxState) runtimeapi.PodSandboxState {
	if st.Ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}
