package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// leastGrace is the time in seconds that every container has between its stop signal and being killed, even
// when its grace period is over.
const leastGrace = 2

// end plans for a Pod that is past its live stage.
func (pl *planner) end() {
	grace := pl.grace()
	stopped := true
	for i := range pl.o.Containers {
		c := &pl.o.Containers[i]
		if pl.dead(c) {
			continue
		}
		stopped = false
		pl.kill(kill{container: c, spec: Spec(pl.pod, c.Name), grace: grace, turn: pl.turn(c)})
	}
	if !stopped || pl.o.Starting() || !pl.stopSandboxes() {
		return
	}
	pl.tearDown()
}

// tearDown gives back what the Pod held, once, and again when a Pod whose work was done is deleted or forgotten.
func (pl *planner) tearDown() {
	w := &pl.o.Work
	clear := Deleted(pl.pod, pl.o) || pl.o.Orders.Forget
	if w.TearDown.Done && (!clear || pl.o.Gone()) {
		return
	}
	step := w.TearDown
	step.Done = false
	if pl.due(&step) {
		pl.do(TearDown{Clear: clear})
	}
}

// dead reports whether a container needs no ending: it has ended, never started, or all was done to end it.
func (pl *planner) dead(c *Container) bool {
	switch c.State {
	case Running:
		return false
	case Unknown:
		k := pl.o.Work.Kills[c.ID]
		return k != nil && k.Stop.Done
	}
	return true
}

// turn reports whether it is a container's turn to be stopped as the Pod ends: regular containers go at once,
// sidecars after them and in reverse order.
func (pl *planner) turn(c *Container) bool {
	spec := initContainer(pl.pod, c.Name)
	if spec == nil || !podutil.IsSidecar(spec) {
		return true
	}
	for i := range pl.pod.Spec.Containers {
		if pl.runs(pl.pod.Spec.Containers[i].Name) {
			return false
		}
	}
	list := pl.pod.Spec.InitContainers
	for i := len(list) - 1; i >= 0 && list[i].Name != c.Name; i-- {
		if podutil.IsSidecar(&list[i]) && pl.runs(list[i].Name) {
			return false
		}
	}
	return true
}

// runs reports whether a container runs or is just being started, which is not cut short.
func (pl *planner) runs(name string) bool {
	if s := pl.o.Work.Starts[name]; s != nil && s.Busy {
		return true
	}
	c := pl.o.newest(name)
	return c != nil && c.State == Running
}

// grace is the grace period in seconds that the containers of the Pod end in now. It can become shorter
// while they do.
func (pl *planner) grace() int64 {
	p, o := pl.pod, pl.o
	grace := int64(leastGrace)
	switch {
	case p.DeletionGracePeriodSeconds != nil:
		grace = *p.DeletionGracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		grace = *p.Spec.TerminationGracePeriodSeconds
	}
	if e := o.Orders.Evict; e != nil && e.Grace != nil {
		grace = min(grace, *e.Grace)
	}
	return max(grace, 1)
}

// killGrace is the grace period in seconds of one container that is killed while its Pod lives on.
func killGrace(p *v1.Pod, c *v1.Container, why KillReason) int64 {
	if p.DeletionGracePeriodSeconds != nil {
		return *p.DeletionGracePeriodSeconds
	}
	if p.Spec.TerminationGracePeriodSeconds == nil {
		return leastGrace
	}
	var probe *v1.Probe
	switch why {
	case KillLiveness:
		probe = c.LivenessProbe
	case KillStartup:
		probe = c.StartupProbe
	}
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return *probe.TerminationGracePeriodSeconds
	}
	return *p.Spec.TerminationGracePeriodSeconds
}

// kill is one container to be ended.
type kill struct {
	container *Container
	// spec is nil when the Pod's spec no longer knows the container.
	spec    *v1.Container
	why     KillReason
	message string
	grace   int64
	// turn is false while it must wait for others, at most for its grace period.
	turn           bool
	noHook         bool
	restart, again bool
}

// kill plans the end of a container as far as it can go now: the preStop handler runs first, within the grace
// period; then, in its turn, it is asked to stop with what is left of that period, at least two seconds.
func (pl *planner) kill(want kill) {
	c, now := want.container, pl.o.Now
	k := pl.o.Work.Kills[c.ID]
	if k == nil {
		pl.beginKill(want)
		return
	}
	if k.Stop.Done {
		return
	}
	grace := min(want.grace, k.Grace)
	deadline := k.Since.Add(time.Duration(grace) * time.Second)
	if now.Before(deadline) && (k.Hook || !want.turn) {
		pl.wakeAt(deadline)
		return
	}
	left := max(grace-int64(now.Sub(k.Since)/time.Second), leastGrace)
	if k.Stop.Busy {
		// The grace period became shorter: the runtime is told again.
		if now.Add(time.Duration(left+1) * time.Second).Before(k.Until) {
			pl.do(StopContainer{ID: c.ID, Grace: left})
		}
		return
	}
	if pl.due(&k.Stop) {
		pl.do(StopContainer{ID: c.ID, Grace: left})
	}
}

func (pl *planner) beginKill(want kill) {
	p, o, c := pl.pod, pl.o, want.container
	grace := want.grace
	if o.Orders.Resumed && p.DeletionTimestamp != nil {
		left := int64(p.DeletionTimestamp.Sub(o.Now) / time.Second)
		grace = min(grace, max(left, leastGrace))
	}
	message := want.message
	if message == "" {
		message = "Stopping container " + c.Name
	}
	spec := want.spec
	if spec == nil {
		spec = Spec(p, c.Name)
	}
	hook := spec != nil && spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && grace > 0 &&
		!want.noHook && c.State == Running
	pl.do(BeginKill{
		Container: spec, ID: c.ID, Name: c.Name, Message: message, Grace: grace,
		Hook: hook, Restart: want.restart, Again: want.again,
	})
}
