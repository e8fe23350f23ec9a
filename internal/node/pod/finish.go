package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// finish makes the status final: nothing of the Pod is left, so every container that ever was to run has
// ended, if in a way that nobody saw, and the phase is terminal.
func (r *reporter) finish(st *v1.PodStatus) {
	if r.wasInitialized(st) {
		endUnseen(st.ContainerStatuses)
	}
	endUnseen(st.InitContainerStatuses[:attempted(st.InitContainerStatuses)])
	if !podutil.IsStatic(r.pod) && !podutil.Terminal(st.Phase) {
		st.Phase = v1.PodFailed
	}
}

func endUnseen(list []v1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated == nil {
			list[i].State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
				Reason: statusUnknown, Message: lostMessage, ExitCode: 137,
			}}
		}
	}
}

// attempted counts the init containers up to the last one that was ever started, at least one if there is
// any.
func attempted(list []v1.ContainerStatus) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].State.Waiting == nil || list[i].LastTerminationState.Terminated != nil {
			return i + 1
		}
	}
	return min(1, len(list))
}

// wasInitialized reports whether the regular containers were ever allowed to start.
func (r *reporter) wasInitialized(st *v1.PodStatus) bool {
	n := len(r.pod.Spec.InitContainers)
	if n == 0 {
		return true
	}
	for i := range st.ContainerStatuses {
		s := &st.ContainerStatuses[i]
		if s.LastTerminationState.Terminated != nil || s.State.Waiting == nil {
			return true
		}
	}
	last := &r.pod.Spec.InitContainers[n-1]
	s := find(st.InitContainerStatuses, last.Name)
	if s == nil {
		return false
	}
	if podutil.IsSidecar(last) {
		return s.State.Running != nil && s.Started != nil && *s.Started
	}
	well := func(e *v1.ContainerStateTerminated) bool {
		return e != nil && !failedEnd(r.pod, last.Name, e.Reason, e.ExitCode)
	}
	return well(s.State.Terminated) || well(s.LastTerminationState.Terminated)
}

// Bounds of what containers may say when they end.
const (
	// MaxMessage is the most bytes read of a termination message, MaxLogMessage of the log in its place,
	// of which at most MaxLogLines lines.
	MaxMessage, MaxLogMessage = 4 << 10, 2 << 10
	MaxLogLines               = 80
	// maxPodMessages is the most bytes that the containers of a Pod say together.
	maxPodMessages = 12 << 10
)

// normalize brings the status to the form the API keeps: times in whole seconds, messages within bounds.
func normalize(p *v1.Pod, st *v1.PodStatus) {
	bound := maxPodMessages
	if n := len(p.Spec.Containers) + len(p.Spec.InitContainers) + len(p.Spec.EphemeralContainers); n > 0 {
		bound /= n
	}
	whole(st.StartTime)
	for i := range st.Conditions {
		whole(&st.Conditions[i].LastProbeTime)
		whole(&st.Conditions[i].LastTransitionTime)
	}
	for _, list := range [][]v1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			list[i].State = normalState(list[i].State, bound)
			list[i].LastTerminationState = normalState(list[i].LastTerminationState, bound)
		}
	}
	byName := func(a, b v1.ContainerStatus) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	}
	slices.SortFunc(st.ContainerStatuses, byName)
	slices.SortFunc(st.EphemeralContainerStatuses, byName)
}

func normalState(s v1.ContainerState, bound int) v1.ContainerState {
	if s.Running != nil {
		running := *s.Running
		whole(&running.StartedAt)
		s.Running = &running
	}
	if s.Terminated != nil {
		end := *s.Terminated
		whole(&end.StartedAt)
		whole(&end.FinishedAt)
		if len(end.Message) > bound {
			end.Message = end.Message[:bound]
		}
		s.Terminated = &end
	}
	return s
}

func whole(t *metav1.Time) {
	if t != nil && !t.IsZero() {
		*t = t.Rfc3339Copy()
	}
}
