package worker

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/probe"
	"podium.dev/podium/internal/node/pull"
)

// Builder makes the configurations of sandboxes and containers; *container.Builder is one.
type Builder interface {
	Sandbox(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error)
	Container(ctx context.Context, in container.Input) (*runtimeapi.ContainerConfig, error)
	// Resources are the limits of a container, as a resize changes them.
	Resources(pod *v1.Pod, c *v1.Container) *runtimeapi.LinuxContainerResources
	// PodLogDir is the folder of a Pod's logs, below that of all Pods'.
	PodLogDir(pod *v1.Pod) string
	// NextAttempt counts the starts of a container by the logs they left.
	NextAttempt(pod *v1.Pod, container string) uint32
	// LinkLog and UnlinkLog make and remove the link to a container's log that log shippers look for,
	// SweepLogLinks those whose logs are gone.
	LinkLog(sandbox *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig, id string) error
	UnlinkLog(labels map[string]string, id string) error
	SweepLogLinks() error
}

// Volumes makes and removes the volumes of Pods; *volume.Manager is one.
type Volumes interface {
	// SetUp is idempotent; its error is what the FailedMount event says, an Aggregate of several.
	SetUp(ctx context.Context, pod *v1.Pod) error
	// Update takes note of a changed Pod, which volumes may show.
	Update(pod *v1.Pod)
	// TearDown is idempotent and safe without SetUp.
	TearDown(ctx context.Context, uid types.UID) error
	// Remove is TearDown, and takes away the whole folder of a Pod that is gone.
	Remove(ctx context.Context, uid types.UID) error
	// Pods returns the Pods that have a folder.
	Pods() ([]types.UID, error)
}

// Probes runs the probes of containers; *probe.Manager is one. It tells Manager.Wake when an outcome changed.
type Probes interface {
	Sync(pod *v1.Pod, running []probe.Target)
	Remove(uid types.UID)
	Outcomes(uid types.UID) map[string]probe.Outcome
}

// Hooks runs lifecycle handlers; *hook.Runner is one.
type Hooks interface {
	Run(ctx context.Context, pod *v1.Pod, container *v1.Container, containerID, podIP string, h *v1.LifecycleHandler) (msg string, err error)
}

// PodCgroups has the cgroups that Pods live in.
type PodCgroups interface {
	Ensure(pod *v1.Pod) (parent string, err error)
	// Grow gives the cgroup the larger of what the Pod has and is to have; Ensure then takes what is too much.
	Grow(from, to *v1.Pod) error
	Remove(uid types.UID) error
	// Pods returns the Pods that have a cgroup.
	Pods() ([]types.UID, error)
}

// Policies puts network policies in force; *netpolicy.Enforcer is one.
type Policies interface {
	// Ready returns when those that select the Pod are in force for its sandbox. It may be called again, from many goroutines.
	Ready(ctx context.Context, pod *v1.Pod, sandbox string) error
}

// Images gets images; *pull.Puller is one.
type Images interface {
	Ensure(ctx context.Context, req pull.Request) pull.Result
	Forget(pod *v1.Pod)
}
