// Package pod is the state machine of a Pod on its node, without any I/O: Status says what the Pod's status is
// and Plan what is to be done next, both from the Pod, its last status and what is observed of it.
//
// A Pod goes through three stages, and never back:
//
//	Live ──▶ Ending ──▶ Ended
//
// Live: its sandbox and containers are made and kept as its spec says. Ending: nothing is started any more, its
// containers are stopped in order, then its sandbox. Ended: nothing of it runs, and what it held is given back.
// A Pod ends because it was deleted, because its work is done or has failed, because its time is over, or
// because the node refused, evicted or lost it.
//
// Everything that matters is found again after the daemon was killed: in the runtime (containers, exit codes,
// restart counts, back-off) and in the API (phase, reason, conditions). Work, the one part of what is observed
// that lives in memory only, can be forgotten at any time: what it held is then done again or waited for again.
//
// The rules are those of the kubelet of Kubernetes v1.37.
package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// State is where a container is in its life, as the runtime says it.
type State uint8

// The states of CRI.
const (
	Created State = iota
	Running
	Exited
	Unknown
)

// String is the state as the kubelet's messages name it.
func (s State) String() string {
	return [...]string{"created", "running", "exited", "unknown"}[s]
}

// Container is one container of the Pod in the runtime: one attempt at running a container of its spec.
type Container struct {
	// ID is the runtime's, without a scheme; Name is that of the container in the spec.
	ID, Name, SandboxID string
	// Attempt counts the starts of the container before this one: its restart count.
	Attempt int32
	State   State
	// StartedAt is zero for one that never started, FinishedAt for one that has not ended.
	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int32
	// Reason and Message say why it ended.
	Reason, Message string
	// Image is its image as it was asked for, ImageRef the digest that runs.
	Image, ImageRef string
	// Hash is that of the spec it was made from; see Hash.
	Hash string
	// Backoff is how long the container must be left alone after this attempt ends, BackoffKey what
	// it was computed for; see backoff.go.
	Backoff    time.Duration
	BackoffKey string
	User       *v1.ContainerUser
	StopSignal *v1.Signal
	Resources  Resources
	// Granted is what it was made with, or last resized to; nil is that nobody knows.
	Granted *Allocation
}

// Resources are what the runtime says it holds a container to; nil is what it does not say.
type Resources struct {
	CPURequest, CPULimit, MemoryLimit *resource.Quantity
}

// Sandbox is one sandbox of the Pod in the runtime.
type Sandbox struct {
	ID      string
	Attempt uint32
	Ready   bool
	// HostNetwork is whether it lives in the node's network, nil when the runtime does not say; HasNetwork
	// whether the runtime said anything of its network, IPs the addresses it has there.
	HostNetwork *bool
	HasNetwork  bool
	IPs         []string
}

// Probe is what the probes of a container say by now; nil is a probe that it does not have or that has not
// come to a conclusion.
type Probe struct {
	Started, Ready, Live *bool
}

// Node is what a status needs to know of the node.
type Node struct {
	// HostIPs are the node's addresses, the main one first, at most one of each family.
	HostIPs []string
	// Runtime is the scheme of container IDs.
	Runtime string
	// MaxBackoff is the longest wait before a restart.
	MaxBackoff time.Duration
	// RecursiveReadOnly is whether the runtime can mount read-only recursively.
	RecursiveReadOnly bool
}

// Verdict is why a Pod was refused or evicted.
type Verdict struct {
	Reason, Message string
	// Grace is the longest grace period in seconds, nil for the Pod's own.
	Grace *int64
	// Disruption is the message of the DisruptionTarget condition that goes with it, "" for none, and
	// DisruptionReason its reason.
	DisruptionReason, Disruption string
}

// Orders are what others have decided about the Pod.
type Orders struct {
	// Reject is why the node did not admit it; it never starts.
	Reject *Verdict
	// Evict is why the node ends it.
	Evict *Verdict
	// Removed reports that its source no longer has it.
	Removed bool
	// Forget is that, once it has ended, nothing is to be kept of it but its status.
	Forget bool
	// Halt is that the node goes down: the Pod stops here and now, but goes on when the node is up again.
	Halt bool
	// Resumed reports that it was being deleted before this daemon knew it, so that part of its grace period is
	// over.
	Resumed bool
	// Settled reports that it had ended, and nothing of it ran any more, before this daemon knew it: its status is final.
	Settled bool
	// Pending is the condition that says why the node does not grant what the spec asks for, nil when it
	// does. The Pod that Status and Plan are given has the resources that are allocated.
	Pending *v1.PodCondition
	// Resize is the generation of the spec that the node granted last, 0 for none that is still under way.
	Resize int64
}

// Step is how far a piece of work is that the runtime does not show.
type Step struct {
	// Busy reports that it is under way, Done that it succeeded.
	Busy, Done bool
	// Reason and Message say why it failed last, at Failed; it is not tried again before Retry.
	Reason, Message string
	Failed, Retry   time.Time
}

// fresh is how long a failed start is shown as such before the back-off that follows it is.
const fresh = 5 * time.Second

// news reports whether the step failed so lately that this is what the status says.
func (s *Step) news(now time.Time) bool {
	return s.Reason != "" && now.Before(s.Failed.Add(fresh))
}

// Pull is how far the image of a container is.
type Pull struct {
	Step
	// Image is the name that is pulled: an answer for another name is of no use.
	Image string
	// Ref is the image when Done.
	Ref string
	// Progress is a word on a pull under way, "" for none.
	Progress string
	// Used are the containers that were started with the image of a volume: it is asked for again when one of them
	// starts once more, as its pull policy may want another.
	Used map[string]bool
}

// Start is the memory of the last attempt at starting a container.
type Start struct {
	Step
	// Hash is that of the spec that was tried.
	Hash string
}

// Hook is how a postStart handler fares; one that succeeded is forgotten.
type Hook uint8

// A postStart handler runs, or has failed.
const (
	HookRuns Hook = iota + 1
	HookFailed
)

// Kill is the memory of a container being stopped.
type Kill struct {
	// Since is when it began; Grace is the whole grace period in seconds that it began with.
	Since time.Time
	Grace int64
	// Hook reports that its preStop handler runs.
	Hook bool
	// Stop is the request to the runtime; Until is when the runtime kills what has not ended by then.
	Stop  Step
	Until time.Time
	// Restart is that the container is wanted again as soon as it has ended, whatever its restart policy
	// says; Again that no back-off holds it.
	Restart, Again bool
}

// Work is what the worker does, has done or failed to do, that the runtime does not show.
type Work struct {
	Volumes, Sandbox Step
	// Resize is bringing cgroups to what is allocated. Its Reason stays while it is tried again.
	Resize Step
	// Pulls and Starts are by container name; Hooks, the postStart handlers, Kills and Removals are by
	// container ID.
	Pulls map[string]*Pull
	// VolumePulls are the pulls of image volumes, by the volume's name.
	VolumePulls map[string]*Pull
	Starts      map[string]*Start
	Hooks       map[string]Hook
	Kills       map[string]*Kill
	Removals    map[string]*Step
	// Sandboxes are the sandboxes being stopped or removed, by ID.
	Sandboxes map[string]*Step
	// TearDown is giving back what the Pod held, Cleared that with it the last traces in the runtime went.
	TearDown Step
	Cleared  bool
	// Warned are the containers, by ID, whose back-off was reported.
	Warned map[string]bool
}

// Observed is all that is known of a Pod at one moment.
type Observed struct {
	Now time.Time
	// Sandboxes and Containers are the runtime's, newest first.
	Sandboxes  []Sandbox
	Containers []Container
	// Probes are by container ID.
	Probes map[string]Probe
	// Cgroup is what the Pod's cgroup is held to, nil when nobody knows.
	Cgroup *Allocation
	Node   Node
	Orders Orders
	Work   Work
}

// newest returns the latest attempt at running the named container, nil when there is none.
func (o *Observed) newest(name string) *Container {
	for i := range o.Containers {
		if o.Containers[i].Name == name {
			return &o.Containers[i]
		}
	}
	return nil
}

// ender returns the kill that ended an attempt, nil when it ended of its own accord. A kill that began after the end,
// which was not known yet, did not cause it: a liveness probe, say, that fails because it dies with its container.
func (o *Observed) ender(c *Container) *Kill {
	k := o.Work.Kills[c.ID]
	if k == nil || c.FinishedAt.Before(k.Since) {
		return nil
	}
	return k
}

// attempts returns the attempts at running the named container, newest first.
func (o *Observed) attempts(name string) []*Container {
	var all []*Container
	for i := range o.Containers {
		if o.Containers[i].Name == name {
			all = append(all, &o.Containers[i])
		}
	}
	return all
}

// active is the sandbox the Pod lives in: the newest, when it is ready; nil when there is none.
func (o *Observed) active() *Sandbox {
	if len(o.Sandboxes) == 0 || !o.Sandboxes[0].Ready {
		return nil
	}
	return &o.Sandboxes[0]
}

// current returns the latest attempt at running the named container in the active sandbox.
func (o *Observed) current(name string) *Container {
	sandbox := o.active()
	if sandbox == nil {
		return nil
	}
	for i := range o.Containers {
		if c := &o.Containers[i]; c.Name == name && c.SandboxID == sandbox.ID {
			return c
		}
	}
	return nil
}

// begun reports whether a regular container was made in the active sandbox, which means that all init
// containers had done their part there.
func (o *Observed) begun(p *v1.Pod) bool {
	for i := range p.Spec.Containers {
		if o.current(p.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

// settling reports whether the start of a container that runs is not through, with its postStart handler:
// until it is, the container does not count as running. One whose handler failed never does, and is ended.
func (o *Observed) settling(c *Container) bool {
	switch o.Work.Hooks[c.ID] {
	case HookRuns:
		return true
	case HookFailed:
		return c.State != Exited
	}
	s := o.Work.Starts[c.Name]
	return s != nil && s.Busy && c.State == Running
}

// Quiet reports whether nothing of the Pod runs and nothing is on its way to run.
func (o *Observed) Quiet() bool {
	for i := range o.Containers {
		switch c := &o.Containers[i]; c.State {
		case Running:
			return false
		case Unknown:
			if k := o.Work.Kills[c.ID]; k == nil || !k.Stop.Done {
				return false
			}
		}
	}
	for i := range o.Sandboxes {
		if o.Sandboxes[i].Ready {
			return false
		}
	}
	return !o.Starting()
}

// Gone reports whether nothing is left of a Pod that was to leave the node.
func (o *Observed) Gone() bool {
	return o.Work.TearDown.Done && o.Work.Cleared && len(o.Containers) == 0 && len(o.Sandboxes) == 0
}

// Starting reports whether the worker is making or starting anything for the Pod.
func (o *Observed) Starting() bool {
	w := &o.Work
	if w.Volumes.Busy || w.Sandbox.Busy {
		return true
	}
	for _, p := range w.Pulls {
		if p.Busy {
			return true
		}
	}
	for _, p := range w.VolumePulls {
		if p.Busy {
			return true
		}
	}
	for _, s := range w.Starts {
		if s.Busy {
			return true
		}
	}
	return false
}

// Probed returns the containers whose probes are to run: those that run and have any, whose start is
// through.
func Probed(p *v1.Pod, o *Observed) []*Container {
	var out []*Container
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != Running || o.settling(c) || o.newest(c.Name) != c {
			continue
		}
		spec := Spec(p, c.Name)
		if spec != nil && (spec.StartupProbe != nil || spec.ReadinessProbe != nil || spec.LivenessProbe != nil) {
			out = append(out, c)
		}
	}
	return out
}
