package pod

import (
	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// initContainers plans the init containers, and reports whether all have done their part.
//
// They run one after the other. The last of them that has a container in the active sandbox is the frontier:
// what comes before it was done; when it is done itself, its successor begins. Sidecars, also those before
// the frontier, are kept running; a sidecar has done its part when it has started. Once a regular container
// was made in the sandbox, all have done their part.
func (pl *planner) initContainers() (done bool) {
	list := pl.pod.Spec.InitContainers
	if len(list) == 0 {
		return true
	}
	if pl.o.begun(pl.pod) {
		for i := range list {
			if podutil.IsSidecar(&list[i]) {
				pl.keepSidecar(&list[i])
			}
		}
		return true
	}
	frontier := -1
	for i := range list {
		if pl.o.current(list[i].Name) != nil {
			frontier = i
		}
	}
	if frontier < 0 {
		pl.start(&list[0], "")
		return false
	}
	for i := range frontier {
		if podutil.IsSidecar(&list[i]) {
			pl.keepSidecar(&list[i])
		}
	}
	if !pl.frontier(&list[frontier]) {
		return false
	}
	if frontier == len(list)-1 {
		return true
	}
	pl.start(&list[frontier+1], "")
	return false
}

// frontier plans the init container that the initialization has come to, and reports whether it has done
// its part.
func (pl *planner) frontier(c *v1.Container) bool {
	if podutil.IsSidecar(c) {
		return pl.keepSidecar(c)
	}
	run := pl.o.current(c.Name)
	switch run.State {
	case Created:
		pl.start(c, "")
	case Exited:
		if !initFailed(pl.pod, run) {
			return true
		}
		if wanted(pl.pod, c, pl.o) {
			pl.start(c, "")
		}
	case Unknown:
		if pl.dead(run) {
			pl.remove(run, true)
		} else {
			pl.lost(c, run, "Init container")
		}
	}
	return false
}

// initFailed reports whether an attempt at an init container did not do its part.
func initFailed(p *v1.Pod, run *Container) bool {
	return run.State == Unknown || run.State == Exited && failedEnd(p, run.Name, run.Reason, run.ExitCode)
}

// keepSidecar plans for a sidecar to run, and reports whether it has started.
func (pl *planner) keepSidecar(c *v1.Container) (started bool) {
	run := pl.o.current(c.Name)
	switch {
	case run == nil || run.State == Created || run.State == Exited:
		pl.start(c, "")
		return false
	case run.State == Unknown && pl.dead(run):
		pl.remove(run, true)
		return false
	case run.State == Unknown:
		pl.lost(c, run, "Init container")
		return false
	}
	started = pl.started(c, run)
	pl.tend(c, run, "Init container", started)
	return started
}

// started reports whether a running sidecar has started, as its startup probe, if any, says.
func (pl *planner) started(c *v1.Container, run *Container) bool {
	if pl.o.settling(run) {
		return false
	}
	if c.StartupProbe == nil {
		return true
	}
	if pr := pl.o.Probes[run.ID]; pr.Started != nil {
		return *pr.Started
	}
	return wasStarted(pl.status, run.ID, pl.o.Node.Runtime)
}

// wasStarted reports whether the status says that the init container of the ID has started: probes that ran
// before the daemon was restarted count.
func wasStarted(st *v1.PodStatus, id, runtime string) bool {
	for i := range st.InitContainerStatuses {
		if s := &st.InitContainerStatuses[i]; s.ContainerID == containerID(runtime, id) {
			return s.Started != nil && *s.Started
		}
	}
	return false
}

func containerID(runtime, id string) string { return runtime + "://" + id }
