package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Action is one thing to do for a Pod. The worker does all actions of a plan at once; what must wait for
// another is not in the plan yet.
type Action interface{ action() }

// SetUpVolumes asks for the Pod's volumes.
type SetUpVolumes struct{}

// PullImage asks for the image of a container.
type PullImage struct{ Container *v1.Container }

// PullVolume asks for the image of a volume of the Pod.
type PullVolume struct{ Volume *v1.Volume }

// CreateSandbox asks for a sandbox. Changed reports that it takes the place of one that is gone.
type CreateSandbox struct {
	Attempt uint32
	Changed bool
}

// StopSandbox asks for the end of a sandbox: its processes and its network.
type StopSandbox struct{ ID string }

// RemoveSandbox asks for a stopped sandbox to be forgotten, with what is left of its containers.
type RemoveSandbox struct{ ID string }

// StartContainer asks for a container to be made, started and, where it has one, its postStart handler run.
type StartContainer struct {
	Container *v1.Container
	Sandbox   *Sandbox
	// Attempt is its restart count; 0 is one the runtime knows no earlier attempt of.
	Attempt int32
	// ID is that of a container that was made but never started, "" for none.
	ID string
	// ImageRef is the image that was pulled for it, ImageVolumes those that it mounts, by the volume's name.
	ImageRef     string
	ImageVolumes map[string]string
	// Target is the name of the container whose process namespace an ephemeral container joins, and TargetID
	// its ID, "" when it is not there.
	Target, TargetID string
	// Backoff and BackoffKey are to be found again on the container; see backoff.go.
	Backoff    time.Duration
	BackoffKey string
}

// KillReason is why a container is killed.
type KillReason string

// The reasons to kill a container.
const (
	KillEnding   KillReason = ""
	KillLiveness KillReason = "LivenessProbe"
	KillStartup  KillReason = "StartupProbe"
	KillChanged  KillReason = "Changed"
	KillUnknown  KillReason = "Unknown"
	KillHook     KillReason = "FailedPostStartHook"
	KillReset    KillReason = "RestartAllContainers"
)

// BeginKill begins the end of a container: the event is told and the preStop handler, if any, run. It is
// carried out at once, so that the same round can plan on.
type BeginKill struct {
	// Container is nil for one that the spec does not know.
	Container *v1.Container
	ID, Name  string
	Message   string
	// Grace is the grace period in seconds.
	Grace int64
	// Hook is that there is a preStop handler and time to run it.
	Hook bool
	// Restart and Again are as in Kill.
	Restart, Again bool
}

// StopContainer asks the runtime to end a container, and to kill it after Grace seconds.
type StopContainer struct {
	ID    string
	Grace int64
}

// RemoveContainer asks the runtime to forget a container that has ended. KeepLogs keeps its log.
type RemoveContainer struct {
	ID, Name string
	KeepLogs bool
}

// WarnBackOff tells that a container waits before its next start. It is carried out at once.
type WarnBackOff struct {
	Container *v1.Container
	ID        string
}

// TearDown gives back what a Pod held that has ended: its volumes and cgroup and, with Clear, what the runtime
// still remembers of it and its logs.
type TearDown struct{ Clear bool }

// Wake asks for another round at a time, at the latest.
type Wake struct{ At time.Time }

func (SetUpVolumes) action()    {}
func (PullImage) action()       {}
func (PullVolume) action()      {}
func (CreateSandbox) action()   {}
func (StopSandbox) action()     {}
func (RemoveSandbox) action()   {}
func (StartContainer) action()  {}
func (BeginKill) action()       {}
func (StopContainer) action()   {}
func (RemoveContainer) action() {}
func (WarnBackOff) action()     {}
func (TearDown) action()        {}
func (Wake) action()            {}
