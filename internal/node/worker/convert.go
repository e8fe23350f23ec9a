package worker

import (
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/pod"
)

// convertContainer makes what package pod knows of a container from what the runtime says; the termination
// message is not in it yet.
func convertContainer(s *runtimeapi.ContainerStatus, sandboxID string) pod.Container {
	notes := container.NotesOf(s.GetLabels(), s.GetAnnotations())
	c := pod.Container{
		ID: s.GetId(), SandboxID: sandboxID,
		Name: notes.Container, Attempt: int32(notes.RestartCount),
		State:     convertState(s.GetState()),
		CreatedAt: when(s.GetCreatedAt()),
		Image:     s.GetImage().GetImage(),
		ImageRef:  s.GetImageRef(),
		Hash:      strconv.FormatUint(notes.Hash, 16),
		User:      convertUser(s.GetUser()),
		Resources: convertResources(s.GetResources()),
	}
	if c.Name == "" {
		c.Name = s.GetMetadata().GetName()
	}
	c.Granted = pod.ParseAllocation(s.GetAnnotations()[pod.AllocationAnnotation])
	c.Backoff, c.BackoffKey = pod.ParseBackoff(s.GetAnnotations()[pod.BackoffAnnotation])
	if c.State != pod.Created {
		c.StartedAt = when(s.GetStartedAt())
	}
	if c.State == pod.Exited {
		c.FinishedAt = when(s.GetFinishedAt())
		c.ExitCode, c.Reason, c.Message = s.GetExitCode(), s.GetReason(), s.GetMessage()
	}
	if sig := s.GetStopSignal(); sig != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		c.StopSignal = convertSignal(sig)
	}
	return c
}

// convertSignal names a signal as the API does: SIGTERM, SIGRTMIN+1.
func convertSignal(sig runtimeapi.Signal) *v1.Signal {
	name := strings.TrimPrefix(sig.String(), "SIGNAL_")
	name = strings.Replace(name, "RTMINPLUS", "RTMIN+", 1)
	name = strings.Replace(name, "RTMAXMINUS", "RTMAX-", 1)
	out := v1.Signal(name)
	return &out
}

func convertState(s runtimeapi.ContainerState) pod.State {
	switch s {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return pod.Created
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return pod.Running
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return pod.Exited
	}
	return pod.Unknown
}

// when is the time of a number of nanoseconds since 1970, the zero time for 0.
func when(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func convertUser(u *runtimeapi.ContainerUser) *v1.ContainerUser {
	if u == nil {
		return nil
	}
	user := &v1.ContainerUser{}
	if l := u.GetLinux(); l != nil {
		user.Linux = &v1.LinuxContainerUser{UID: l.GetUid(), GID: l.GetGid(), SupplementalGroups: l.GetSupplementalGroups()}
	}
	return user
}

func convertResources(r *runtimeapi.ContainerResources) pod.Resources {
	var out pod.Resources
	l := r.GetLinux()
	if l == nil {
		return out
	}
	if l.GetCpuPeriod() > 0 && l.GetCpuQuota() > 0 {
		if milli := l.GetCpuQuota() * 1000 / l.GetCpuPeriod(); milli > 0 {
			out.CPULimit = resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
	}
	if shares := l.GetCpuShares(); shares >= 2 {
		out.CPURequest = resource.NewMilliQuantity((shares*1000+1023)/1024, resource.DecimalSI)
	}
	if bytes := l.GetMemoryLimitInBytes(); bytes > 0 {
		out.MemoryLimit = resource.NewQuantity(bytes, resource.BinarySI)
	}
	return out
}

func convertSandbox(s *runtimeapi.PodSandboxStatus) pod.Sandbox {
	box := pod.Sandbox{
		ID: s.GetId(), Attempt: s.GetMetadata().GetAttempt(),
		Ready:      s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY,
		HasNetwork: s.GetNetwork() != nil,
	}
	if o := s.GetLinux().GetNamespaces().GetOptions(); o != nil {
		host := o.GetNetwork() == runtimeapi.NamespaceMode_NODE
		box.HostNetwork = &host
	}
	if ip := s.GetNetwork().GetIp(); ip != "" {
		box.IPs = append(box.IPs, ip)
	}
	for _, more := range s.GetNetwork().GetAdditionalIps() {
		box.IPs = append(box.IPs, more.GetIp())
	}
	return box
}
