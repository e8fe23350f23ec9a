package pod

import (
	v1 "k8s.io/api/core/v1"
)

// start plans for a container that does not run to be started, as far as that can go now: its image is
// pulled as soon as it is wanted; it starts when its back-off is over and image, volumes and sandbox are there.
func (pl *planner) start(c *v1.Container, target string) {
	o := pl.o
	if !pl.mayStart(c) {
		return
	}
	last := o.newest(c.Name)
	if until, _, wait := held(c, o); wait {
		pl.wakeAt(until)
		if told := toldUntil(c, o); o.Now.Before(told) {
			pl.wakeAt(told)
		}
		if id := lastExit(c.Name, o).ID; !o.Work.Warned[id] {
			pl.do(WarnBackOff{Container: c, ID: id})
		}
		return
	}
	ref, ok := pl.image(c)
	volumes, all := pl.imageVolumes(c)
	if !ok || !all || !o.Work.Volumes.Done || pl.holds {
		return
	}
	a := StartContainer{
		Container: c, Sandbox: o.active(), ImageRef: ref, ImageVolumes: volumes, Target: target,
		Backoff: nextBackoff(c, o), BackoffKey: backoffKey(c),
	}
	switch {
	case last == nil:
	case last.State == Created && last.SandboxID == a.Sandbox.ID:
		a.ID, a.Attempt = last.ID, last.Attempt
	default:
		a.Attempt = last.Attempt + 1
	}
	if t := o.current(target); target != "" && t != nil {
		a.TargetID = t.ID
	}
	pl.do(a)
}

// mayStart reports whether nothing stands against starting the container now: no start is under way, the last
// one did not fail just before, and no attempt is left that must go first.
func (pl *planner) mayStart(c *v1.Container) bool {
	if s := pl.o.Work.Starts[c.Name]; s != nil {
		if s.Reason != "" && s.news(pl.o.Now) {
			pl.wakeAt(s.Failed.Add(fresh))
		}
		if s.Busy || (s.Hash == Hash(c) && !pl.due(&s.Step)) {
			return false
		}
	}
	last := pl.o.newest(c.Name)
	if last == nil {
		return true
	}
	if s := pl.o.Work.Removals[last.ID]; s != nil && s.Busy {
		return false
	}
	if last.State == Created && last.Hash != "" && last.Hash != Hash(c) {
		pl.remove(last, false)
		return false
	}
	return true
}

// image plans for the image of a container, and returns it when it is there.
func (pl *planner) image(c *v1.Container) (ref string, ok bool) {
	pull := pl.o.Work.Pulls[c.Name]
	if pull == nil || (pull.Image != c.Image && !pull.Busy) {
		pl.do(PullImage{Container: c})
		return "", false
	}
	if pull.Done {
		return pull.Ref, pull.Image == c.Image
	}
	if pl.due(&pull.Step) {
		pl.do(PullImage{Container: c})
	}
	return "", false
}

// ephemeral plans the ephemeral containers: each is started once.
func (pl *planner) ephemeral() {
	for i := range pl.pod.Spec.EphemeralContainers {
		e := &pl.pod.Spec.EphemeralContainers[i]
		c := (*v1.Container)(&e.EphemeralContainerCommon)
		last := pl.o.newest(c.Name)
		if last == nil || last.State == Created {
			pl.start(c, e.TargetContainerName)
		}
	}
}

// containers plans the regular containers of an initialized Pod.
func (pl *planner) containers() {
	p, o := pl.pod, pl.o
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		last := o.newest(c.Name)
		switch {
		case last != nil && last.State == Running:
			pl.tend(c, last, "Container", true)
			if o.settling(last) {
				return
			}
		case last != nil && last.State == Unknown && !pl.dead(last):
			pl.lost(c, last, "Container")
		case last != nil && last.State == Unknown:
			pl.remove(last, true)
		case wanted(p, c, o):
			pl.start(c, "")
			if pl.holdsUp(c) {
				return
			}
		}
	}
}

// holdsUp reports whether the containers after this one must wait: it is on its way and has a postStart
// handler, which is through before the next container starts. While none is started for a resize it holds up nothing:
// the resize may wait for one of those after it to be stopped.
func (pl *planner) holdsUp(c *v1.Container) bool {
	if pl.holds || c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return false
	}
	if _, _, wait := held(c, pl.o); wait {
		return false
	}
	failed := func(s *Step) bool { return s != nil && !s.Busy && s.Reason != "" }
	if s := pl.o.Work.Starts[c.Name]; s != nil && failed(&s.Step) {
		return false
	}
	if s := pl.o.Work.Pulls[c.Name]; s != nil && failed(&s.Step) {
		return false
	}
	if s := pl.o.Work.failedVolume(pl.pod, c); s != nil && failed(&s.Step) {
		return false
	}
	return true
}

// tend plans for a running container that its spec and its probes are met; before it has started, nothing but
// its startup probe counts.
func (pl *planner) tend(c *v1.Container, run *Container, noun string, started bool) {
	if k := pl.o.Work.Kills[run.ID]; k != nil {
		pl.kill(kill{container: run, spec: c, grace: k.Grace, turn: true})
		return
	}
	if pl.o.Work.Hooks[run.ID] == HookFailed {
		pl.kill(kill{container: run, spec: c, turn: true, grace: killGrace(pl.pod, c, KillHook), message: string(KillHook)})
		return
	}
	if pl.o.settling(run) {
		return
	}
	probe := pl.o.Probes[run.ID]
	k := kill{container: run, spec: c, turn: true, restart: restartsWhenKilled(pl.pod, c)}
	switch {
	case started && run.Hash != "" && run.Hash != Hash(c):
		k.why, k.message, k.restart = KillChanged, noun+" "+c.Name+" definition changed", true
	case started && probe.Live != nil && !*probe.Live:
		k.why, k.message = KillLiveness, noun+" "+c.Name+" failed liveness probe"
	case probe.Started != nil && !*probe.Started:
		k.why, k.message = KillStartup, noun+" "+c.Name+" failed startup probe"
	case resizeRestarts(pl.pod, c, run):
		pl.kill(kill{
			container: run, spec: c, turn: true, restart: true, again: true, grace: killGrace(pl.pod, c, KillResize),
			message: "Container " + c.Name + " resize requires restart",
		})
		return
	default:
		return
	}
	if k.restart && noun == "Container" {
		k.message += ", will be restarted"
	}
	k.grace = killGrace(pl.pod, c, k.why)
	k.again = pl.again(c, run)
	pl.kill(k)
}

// again reports whether a container that the node kills starts again with no wait: it does unless the exit
// before this run was so recent that its back-off would still hold.
func (pl *planner) again(c *v1.Container, run *Container) bool {
	before := lastExit(c.Name, pl.o)
	if before == nil || run.Backoff == 0 || run.BackoffKey != backoffKey(c) {
		return true
	}
	return !pl.o.Now.Before(before.FinishedAt.Add(run.Backoff))
}

// lost plans for a container that the runtime cannot tell the state of: it is ended before it is started
// again.
func (pl *planner) lost(c *v1.Container, run *Container, noun string) {
	pl.kill(kill{
		container: run, spec: c, why: KillUnknown, turn: true, grace: killGrace(pl.pod, c, KillUnknown),
		message: noun + ` is in "` + run.State.String() + `" state, try killing it before restart`,
	})
}
