package pod

import (
	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// tally counts the containers of a Pod by what they mean for its phase.
type tally struct {
	// restarting is that the whole Pod is being restarted in place: no end of a container is for good.
	restarting bool
	// initPending are init containers that have not ended, sidecarsPending those that have not started.
	initPending, sidecarsPending int
	// initFailed is that an init container has failed for good.
	initFailed bool
	// Of sidecars and regular containers: those running, those that never ran, those without a known state.
	running, waiting, unknown int
	// Of regular containers: those that have ended, those of them for good, those of them well.
	stopped, final, succeeded int
}

// reckonPhase works the phase out from the containers' statuses.
func (r *reporter) reckonPhase(st *v1.PodStatus) v1.PodPhase {
	t := tally{restarting: r.restarting}
	for i := range r.pod.Spec.InitContainers {
		c := &r.pod.Spec.InitContainers[i]
		s := find(st.InitContainerStatuses, c.Name)
		if podutil.IsSidecar(c) {
			t.sidecar(s)
		} else {
			t.init(r.pod, c, s)
		}
	}
	for i := range r.pod.Spec.Containers {
		c := &r.pod.Spec.Containers[i]
		t.regular(r.pod, c, find(st.ContainerStatuses, c.Name))
	}
	switch {
	case t.initFailed:
		return v1.PodFailed
	case t.initPending > 0, t.sidecarsPending > 0 && !r.o.begun(r.pod), t.waiting > 0:
		return v1.PodPending
	case t.running > 0 && t.unknown == 0:
		return v1.PodRunning
	case t.running == 0 && t.stopped > 0 && t.unknown == 0:
		return t.over(r.ended && !podutil.IsStatic(r.pod))
	}
	return v1.PodPending
}

// over is the phase of a Pod of which nothing runs; ended is that nothing will run again.
func (t *tally) over(ended bool) v1.PodPhase {
	switch {
	case !ended && t.stopped != t.final:
		return v1.PodRunning
	case t.stopped == t.succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

func (t *tally) init(p *v1.Pod, c *v1.Container, s *v1.ContainerStatus) {
	if s == nil || s.State.Running != nil {
		t.initPending++
		return
	}
	end := s.State.Terminated
	if end == nil && s.State.Waiting != nil {
		end = s.LastTerminationState.Terminated
	}
	switch {
	case end == nil:
		t.initPending++
	case failedEnd(p, c.Name, end.Reason, end.ExitCode) && !t.restarts(p, c, end):
		t.initFailed = true
	}
}

func (t *tally) sidecar(s *v1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		if s.Started == nil || !*s.Started {
			t.sidecarsPending++
		}
		t.running++
	case s.State.Terminated != nil:
	case s.State.Waiting != nil:
		if s.LastTerminationState.Terminated == nil {
			t.sidecarsPending++
			t.waiting++
		}
	default:
		t.sidecarsPending++
		t.unknown++
	}
}

func (t *tally) regular(p *v1.Pod, c *v1.Container, s *v1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
	case s.State.Terminated != nil:
		t.stopped++
		if !t.restarts(p, c, s.State.Terminated) {
			t.final++
		}
		if s.State.Terminated.ExitCode == 0 {
			t.succeeded++
		}
	case s.State.Waiting != nil:
		end := s.LastTerminationState.Terminated
		if end == nil {
			t.waiting++
			return
		}
		t.stopped++
		if !t.restarts(p, c, end) {
			t.final++
		}
	default:
		t.unknown++
	}
}

// restarts reports whether a container starts again after it ended so.
func (t *tally) restarts(p *v1.Pod, c *v1.Container, end *v1.ContainerStateTerminated) bool {
	return t.restarting || end.Reason == restartingAllReason || restartsAfter(p, c, end.ExitCode, failedEnd(p, c.Name, end.Reason, end.ExitCode))
}
