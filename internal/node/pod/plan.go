package pod

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// Plan returns what is to be done for the Pod now. st is its status as Status just made it from the same
// observation.
func Plan(p *v1.Pod, st *v1.PodStatus, o *Observed) []Action {
	pl := &planner{pod: p, status: st, o: o}
	if Ending(p, st, o) {
		pl.end()
	} else {
		pl.live()
	}
	if !pl.wake.IsZero() {
		pl.do(Wake{At: pl.wake})
	}
	return pl.actions
}

// Ending reports whether the Pod is past its live stage: nothing of it is started any more.
func Ending(p *v1.Pod, st *v1.PodStatus, o *Observed) bool {
	return p.DeletionTimestamp != nil || o.Orders.Removed || o.Orders.Halt || o.Orders.Evict != nil || o.Orders.Reject != nil ||
		podutil.Terminal(p.Status.Phase) || podutil.Terminal(st.Phase) || spent(p, st, o)
}

// spent reports whether the Pod's work is done: every regular container has ended for good. What runs next to
// them, sidecars and ephemeral containers, does not keep the Pod.
func spent(p *v1.Pod, st *v1.PodStatus, o *Observed) bool {
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if last := o.newest(c.Name); last == nil || last.State != Exited || wanted(p, c, o) {
			return false
		}
		if s := o.Work.Starts[c.Name]; s != nil && s.Busy {
			return false
		}
	}
	return !restartingAll(p, st, o)
}

// Deleted reports whether the Pod is to leave the node, and not merely to stop running.
func Deleted(p *v1.Pod, o *Observed) bool { return p.DeletionTimestamp != nil || o.Orders.Removed }

// planner gathers the actions of one plan.
type planner struct {
	pod     *v1.Pod
	status  *v1.PodStatus
	o       *Observed
	actions []Action
	wake    time.Time
	// holds is that no container is started, for the Pod is being resized.
	holds bool
}

func (pl *planner) do(a Action) { pl.actions = append(pl.actions, a) }

// wakeAt asks for another round at t at the latest.
func (pl *planner) wakeAt(t time.Time) {
	if pl.wake.IsZero() || t.Before(pl.wake) {
		pl.wake = t
	}
}

// due reports whether a step is to be begun now: it is neither under way nor done, and its time to be tried
// again has come.
func (pl *planner) due(s *Step) bool {
	if s.Busy || s.Done {
		return false
	}
	if pl.o.Now.Before(s.Retry) {
		pl.wakeAt(s.Retry)
		return false
	}
	return true
}

// live plans for a Pod that is to run.
func (pl *planner) live() {
	p, o := pl.pod, pl.o
	pl.watchDeadline()
	if c := condition(pl.status.Conditions, v1.AllContainersRestarting); c != nil && c.Status == v1.ConditionTrue {
		pl.reset()
		return
	}
	pl.prune()
	if pl.due(&o.Work.Volumes) {
		pl.do(SetUpVolumes{})
	}
	if why, attempt := sandboxNeed(p, o); why != "" {
		pl.sandbox(attempt)
		return
	}
	pl.resize()
	pl.ephemeral()
	if pl.initContainers() {
		pl.containers()
	}
}

// watchDeadline asks to be woken when the Pod has been active for as long as it may.
func (pl *planner) watchDeadline() {
	if s := pl.pod.Spec.ActiveDeadlineSeconds; s != nil && pl.status.StartTime != nil {
		pl.wakeAt(pl.status.StartTime.Add(time.Duration(*s) * time.Second))
	}
}

// sandbox plans towards a new sandbox: what is left of the old one goes first, then it is made, while the
// images of the containers that come first are pulled.
func (pl *planner) sandbox(attempt uint32) {
	o := pl.o
	quiet := true
	for i := range o.Containers {
		if c := &o.Containers[i]; c.State == Running || c.State == Unknown {
			pl.kill(kill{container: c, grace: pl.grace(), turn: true})
			quiet = quiet && pl.dead(c)
		}
	}
	if !quiet || !pl.stopSandboxes() {
		return
	}
	first, worth := pl.firstContainers()
	if !worth {
		return
	}
	for _, c := range first {
		pl.image(c)
		pl.imageVolumes(c)
	}
	if !pl.purge() {
		return
	}
	if pl.due(&o.Work.Sandbox) {
		pl.do(CreateSandbox{Attempt: attempt, Changed: attempt > 0})
	}
}

// firstContainers returns the containers that start as soon as there is a sandbox, and whether a sandbox
// is worth making at all: it is not when the Pod had one before and nothing in it is to run again.
func (pl *planner) firstContainers() (first []*v1.Container, worth bool) {
	p, o := pl.pod, pl.o
	ran := slices.ContainsFunc(o.Containers, func(c Container) bool { return c.State != Created })
	if p.Spec.RestartPolicy == v1.RestartPolicyNever && len(o.Sandboxes) > 0 && ran {
		return nil, false
	}
	created := false
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		last := o.newest(c.Name)
		if last != nil && last.State != Unknown {
			created = true
		}
		once := p.Spec.RestartPolicy == v1.RestartPolicyOnFailure
		if c.RestartPolicy != nil {
			once = *c.RestartPolicy == v1.ContainerRestartPolicyOnFailure
		}
		if once && last != nil && last.State == Exited && last.ExitCode == 0 {
			continue
		}
		first = append(first, c)
	}
	if len(first) == 0 && created {
		return nil, false
	}
	if len(p.Spec.InitContainers) > 0 {
		first = []*v1.Container{&p.Spec.InitContainers[0]}
	}
	return slices.DeleteFunc(first, func(c *v1.Container) bool {
		_, _, wait := held(c, o)
		return wait
	}), true
}

// purge removes the init containers of earlier sandboxes, which are to run again, and reports whether they
// are gone.
func (pl *planner) purge() bool {
	gone := true
	for i := range pl.o.Containers {
		c := &pl.o.Containers[i]
		if initContainer(pl.pod, c.Name) != nil {
			gone = false
			pl.remove(c, false)
		}
	}
	return gone
}

func initContainer(p *v1.Pod, name string) *v1.Container {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i]
		}
	}
	return nil
}

// remove plans for a container that has ended to be forgotten.
func (pl *planner) remove(c *Container, keepLogs bool) {
	step := pl.o.Work.Removals[c.ID]
	if step == nil || pl.due(step) {
		pl.do(RemoveContainer{ID: c.ID, Name: c.Name, KeepLogs: keepLogs})
	}
}

// stopSandboxes plans for every ready sandbox to be stopped, and reports whether none is left.
func (pl *planner) stopSandboxes() bool {
	stopped := true
	for i := range pl.o.Sandboxes {
		s := &pl.o.Sandboxes[i]
		if !s.Ready {
			continue
		}
		stopped = false
		if step := pl.o.Work.Sandboxes[s.ID]; step == nil || pl.due(step) {
			pl.do(StopSandbox{ID: s.ID})
		}
	}
	return stopped
}

// kept is how many attempts at a container that have ended are kept: the last, and the one before it, whose
// log is that of `kubectl logs --previous`.
const kept = 2

// prune forgets what nobody asks for any more: attempts older than the kept ones, containers that were made
// in a sandbox that is gone and never started, and sandboxes that were replaced and have no container left.
func (pl *planner) prune() {
	o := pl.o
	seen := map[string]int{}
	used := map[string]bool{}
	active := o.active()
	for i := range o.Containers {
		c := &o.Containers[i]
		seen[c.Name]++
		switch {
		case c.State == Exited && seen[c.Name] > kept:
			pl.remove(c, false)
		case c.State == Created && active != nil && c.SandboxID != active.ID:
			pl.remove(c, false)
		}
		used[c.SandboxID] = true
	}
	for i := range o.Sandboxes {
		s := &o.Sandboxes[i]
		if i == 0 || s.Ready || used[s.ID] {
			continue
		}
		if step := o.Work.Sandboxes[s.ID]; step == nil || pl.due(step) {
			pl.do(RemoveSandbox{ID: s.ID})
		}
	}
}

// reset plans for a restart of the whole Pod in place: every container is killed and forgotten, those whose
// exit asked for it last; their logs stay.
func (pl *planner) reset() {
	var sources []*Container
	clean := true
	for i := range pl.o.Containers {
		c := &pl.o.Containers[i]
		spec := Spec(pl.pod, c.Name)
		if spec == nil || pl.isEphemeral(c.Name) {
			continue
		}
		switch {
		case c.State == Exited && restartsAll(spec, c.ExitCode):
			sources = append(sources, c)
			continue
		case pl.dead(c):
			pl.remove(c, true)
		default:
			pl.kill(kill{container: c, spec: spec, message: "killing", turn: true, noHook: true})
		}
		clean = false
	}
	if clean {
		for _, c := range sources {
			pl.remove(c, true)
		}
	}
}

func (pl *planner) isEphemeral(name string) bool {
	for i := range pl.pod.Spec.EphemeralContainers {
		if pl.pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

// The reasons why a Pod has no sandbox to start containers in, as the PodReadyToStartContainers condition says
// them.
const (
	noSandbox        = "no pod sandbox exists"
	manySandboxes    = "multiple pod sandboxes are ready and need to be reconciled"
	sandboxNotReady  = "pod sandbox is not ready"
	sandboxOtherNet  = "network namespace mode changed and sandbox needs to be recreated"
	sandboxNoAddress = "pod sandbox has no IP address"
)

// sandboxNeed answers why the Pod needs a new sandbox, "" when it does not, and which attempt it would be.
func sandboxNeed(p *v1.Pod, o *Observed) (why string, attempt uint32) {
	if len(o.Sandboxes) == 0 {
		return noSandbox, 0
	}
	ready := 0
	for i := range o.Sandboxes {
		if o.Sandboxes[i].Ready {
			ready++
		}
	}
	s := &o.Sandboxes[0]
	switch {
	case ready > 1:
		return manySandboxes, s.Attempt + 1
	case !s.Ready:
		return sandboxNotReady, s.Attempt + 1
	case s.HostNetwork != nil && *s.HostNetwork != p.Spec.HostNetwork:
		return sandboxOtherNet, s.Attempt + 1
	case !p.Spec.HostNetwork && s.HasNetwork && len(s.IPs) == 0:
		return sandboxNoAddress, s.Attempt + 1
	}
	return "", s.Attempt
}
