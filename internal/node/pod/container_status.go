package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// The reasons of containers that wait or whose end was not seen.
const (
	containerCreating   = "ContainerCreating"
	podInitializing     = "PodInitializing"
	crashLoopBackOff    = "CrashLoopBackOff"
	statusUnknown       = "ContainerStatusUnknown"
	restartingAllReason = "RestartingAllContainers"
	restartingAllWords  = "The container is removed because RestartAllContainers in place"
)

// kind is which list of the spec a container is in.
type kind uint8

const (
	regularKind kind = iota
	initKind
	ephemeralKind
)

func (r *reporter) ephemerals() []v1.ContainerStatus {
	list := r.pod.Spec.EphemeralContainers
	if len(list) == 0 {
		return nil
	}
	specs := make([]v1.Container, len(list))
	for i := range list {
		specs[i] = v1.Container(list[i].EphemeralContainerCommon)
	}
	return r.containers(specs, r.prev.EphemeralContainerStatuses, ephemeralKind)
}

// containers makes the statuses of one list of containers.
func (r *reporter) containers(specs []v1.Container, prev []v1.ContainerStatus, k kind) []v1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	out := make([]v1.ContainerStatus, 0, len(specs))
	for i := range specs {
		c := &specs[i]
		st := r.container(c, find(prev, c.Name), k)
		if k != ephemeralKind {
			r.probed(c, &st, find(prev, c.Name), k)
		}
		out = append(out, st)
	}
	return out
}

// container makes the status of one container: from its attempts in the runtime, newest first, and from what
// the status was before, which outlives attempts that the runtime has forgotten.
func (r *reporter) container(c *v1.Container, prev *v1.ContainerStatus, k kind) v1.ContainerStatus {
	st := r.before(c, prev)
	runs := r.o.attempts(c.Name)
	if len(runs) > 0 && (runs[0].State == Created || r.o.settling(runs[0])) {
		runs = runs[1:]
	}
	if len(runs) == 0 {
		r.absent(&st, c, prev)
	} else {
		mounts, run := st.VolumeMounts, runs[0]
		if r.replacing(c, run, prev) {
			as := *run
			as.State, run = Running, &as
			_, _, differ := resized(r.pod, c, run)
			r.resizes = r.resizes || differ
		}
		st = r.run(c, run, prev)
		if st.VolumeMounts == nil {
			st.VolumeMounts = mounts
		}
		if len(runs) > 1 {
			st.LastTerminationState = r.state(runs[1], prev)
		}
	}
	if k == initKind && r.initOver(&st, c, len(runs)) {
		return st
	}
	r.wait(&st, c, prev)
	return st
}

// replacing reports whether a container that has ended is on its way to run again because the node ended it just
// for that: its spec has changed, a probe of it failed, or a resize restarts it. As in Kubernetes, end and start
// are then one step: the status says that it runs until its successor does or cannot be started.
func (r *reporter) replacing(c *v1.Container, run *Container, prev *v1.ContainerStatus) bool {
	w := &r.o.Work
	if run.State != Exited {
		return false
	}
	k := r.o.ender(run)
	if k == nil || !k.Restart || !k.Again || Ending(r.pod, r.prev, r.o) {
		return false
	}
	if prev == nil || prev.State.Running == nil || prev.ContainerID != containerID(r.o.Node.Runtime, run.ID) {
		return false // its end was told
	}
	if start := w.Starts[c.Name]; start != nil && start.Reason != "" && start.Hash == Hash(c) {
		return false
	}
	pull := w.Pulls[c.Name]
	return (pull == nil || pull.Reason == "" || pull.Image != c.Image) && w.failedVolume(r.pod, c) == nil
}

// before is the status of a container that the runtime knows nothing of: it waits to be made, or it has ended
// before.
func (r *reporter) before(c *v1.Container, prev *v1.ContainerStatus) v1.ContainerStatus {
	if prev != nil && prev.State.Terminated != nil {
		return *prev.DeepCopy()
	}
	st := v1.ContainerStatus{
		Name: c.Name, Image: c.Image,
		State:        v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: r.creating()}},
		VolumeMounts: r.mounts(c),
	}
	if pull := r.o.Work.Pulls[c.Name]; pull != nil && pull.Busy {
		st.State.Waiting.Message = pull.Progress
	}
	if prev != nil {
		st.RestartCount = prev.RestartCount
		st.LastTerminationState = *prev.LastTerminationState.DeepCopy()
		if w := prev.State.Waiting; w != nil && w.Reason == restartingAllReason {
			st.State.Waiting = w.DeepCopy() // until it runs again
		}
	}
	return st
}

// creating is the reason of a container that waits to be made for the first time.
func (r *reporter) creating() string {
	if len(r.pod.Spec.InitContainers) > 0 {
		return podInitializing
	}
	return containerCreating
}

// mounts are the volumes that are mounted into the container.
func (r *reporter) mounts(c *v1.Container) []v1.VolumeMountStatus {
	var out []v1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := v1.RecursiveReadOnlyDisabled
			if r.recursive(&m) {
				mode = v1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}

// recursive reports whether a read-only mount is read-only all the way down.
func (r *reporter) recursive(m *v1.VolumeMount) bool {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled ||
		(m.MountPropagation != nil && *m.MountPropagation != v1.MountPropagationNone) {
		return false
	}
	return r.o.Node.RecursiveReadOnly
}

// absent completes the status of a container that the runtime knows nothing of, though the status says that
// it ran: it must have ended somehow.
func (r *reporter) absent(st *v1.ContainerStatus, c *v1.Container, prev *v1.ContainerStatus) {
	if prev == nil {
		return
	}
	if r.restarting && prev.State.Waiting == nil {
		st.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: restartingAllReason, Message: restartingAllWords}}
		st.LastTerminationState = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason: restartingAllReason, Message: restartingAllWords, ExitCode: 137,
		}}
		st.RestartCount = prev.RestartCount + 1
		return
	}
	if prev.State.Running == nil || st.LastTerminationState.Terminated != nil {
		return
	}
	st.LastTerminationState.Terminated = &v1.ContainerStateTerminated{
		Reason:   statusUnknown,
		Message:  "The container could not be located when the pod was deleted.  The container used to be Running",
		ExitCode: 137,
	}
	if r.pod.DeletionTimestamp == nil {
		st.RestartCount++
	}
}

// run is the status of a container by its latest attempt.
func (r *reporter) run(c *v1.Container, run *Container, prev *v1.ContainerStatus) v1.ContainerStatus {
	st := v1.ContainerStatus{
		Name: c.Name, RestartCount: run.Attempt, Image: run.Image, ImageID: run.ImageRef,
		ContainerID: containerID(r.o.Node.Runtime, run.ID),
		State:       r.state(run, prev),
		User:        run.User,
		Resources:   containerResources(c, run),
		// The uninflated requests: what a resize aims at.
		AllocatedResources: c.Resources.Requests.DeepCopy(),
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		st.StopSignal = run.StopSignal
	}
	if prev == nil {
		return st
	}
	st.VolumeMounts = prev.VolumeMounts
	st.RestartCount = max(st.RestartCount, prev.RestartCount)
	switch {
	case prev.ContainerID != st.ContainerID && prev.State.Terminated != nil:
		st.LastTerminationState.Terminated = prev.State.Terminated
	case prev.LastTerminationState.Terminated != nil:
		st.LastTerminationState.Terminated = prev.LastTerminationState.Terminated
	}
	// Attempts that the runtime has forgotten count too.
	switch {
	case run.State == Unknown && st.State.Terminated != nil:
		st.RestartCount = prev.RestartCount + 1
	case run.State == Running && prev.State.Terminated != nil && prev.RestartCount >= run.Attempt:
		st.RestartCount = prev.RestartCount + 1
	}
	return st
}

// state is the state that one attempt is in.
func (r *reporter) state(run *Container, prev *v1.ContainerStatus) v1.ContainerState {
	switch {
	case run.State == Running:
		return v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(run.StartedAt)}}
	case run.State == Exited:
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			ExitCode: run.ExitCode, Reason: run.Reason, Message: run.Message,
			StartedAt: metav1.NewTime(run.StartedAt), FinishedAt: metav1.NewTime(run.FinishedAt),
			ContainerID: containerID(r.o.Node.Runtime, run.ID),
		}}
	case run.State == Unknown && prev != nil && prev.State.Running != nil:
		reason := statusUnknown
		if r.restarting {
			reason = restartingAllReason
		}
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason: reason, Message: lostMessage, ExitCode: 137,
		}}
	}
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}
}

const lostMessage = "The container could not be located when the pod was terminated"

// initOver reports whether an init container needs no further word: it ended well, or it must have, since
// regular containers were made after it.
func (r *reporter) initOver(st *v1.ContainerStatus, c *v1.Container, runs int) bool {
	last := r.o.newest(c.Name)
	if last != nil {
		return runs > 0 && last.State == Exited && !initFailed(r.pod, last)
	}
	if r.restarting || podutil.IsSidecar(c) || !r.o.begun(r.pod) {
		return false // while all are being restarted, or in a new sandbox, it is to run again
	}
	if st.State.Waiting != nil {
		st.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			Reason:  "Completed",
			Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
		}}
	}
	return st.State.Terminated != nil && st.State.Terminated.ExitCode == 0
}

// wait turns the status of a container that is to be started into one that waits, when there is a reason to
// tell why it does not run yet.
func (r *reporter) wait(st *v1.ContainerStatus, c *v1.Container, prev *v1.ContainerStatus) {
	newest := r.o.newest(c.Name)
	onItsWay := newest != nil && r.o.settling(newest)
	if st.State.Running != nil || (!onItsWay && !wanted(r.pod, c, r.o)) {
		return
	}
	reason := r.waitReason(st, c, prev)
	if reason == nil {
		return
	}
	if st.State.Terminated != nil {
		st.LastTerminationState = st.State
	}
	st.State = v1.ContainerState{Waiting: reason}
}

// waitReason is why a container that is to be started does not run, nil for nothing worth telling.
func (r *reporter) waitReason(st *v1.ContainerStatus, c *v1.Container, prev *v1.ContainerStatus) *v1.ContainerStateWaiting {
	w := &r.o.Work
	start := w.Starts[c.Name]
	failed := start != nil && start.Reason != "" && start.Hash == Hash(c)
	until, window, waits := held(c, r.o)
	if waits && !(failed && start.news(r.o.Now)) {
		if !failed && r.o.Now.Before(toldUntil(c, r.o)) {
			return nil
		}
		return &v1.ContainerStateWaiting{
			Reason:  crashLoopBackOff,
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", window, c.Name, Describe(r.pod)),
		}
	}
	// A start that failed before the back-off was over is not the one that is on its way.
	if failed && (waits || !start.Failed.Before(until)) {
		return &v1.ContainerStateWaiting{Reason: start.Reason, Message: start.Message}
	}
	// As in Kubernetes, the images of volumes come before the container's own.
	if pull := w.failedVolume(r.pod, c); pull != nil {
		return &v1.ContainerStateWaiting{Reason: pull.Reason, Message: pull.Message}
	}
	if pull := w.Pulls[c.Name]; pull != nil && pull.Reason != "" && pull.Image == c.Image {
		return &v1.ContainerStateWaiting{Reason: pull.Reason, Message: pull.Message}
	}
	// The next start is on its way: until it is there, what was said before still holds.
	if prev != nil && prev.State.Waiting != nil && prev.State.Waiting.Reason != "" && st.State.Terminated != nil &&
		prev.LastTerminationState.Terminated != nil &&
		prev.LastTerminationState.Terminated.ContainerID == st.State.Terminated.ContainerID {
		return prev.State.Waiting
	}
	return nil
}

// Describe names the Pod as the kubelet's messages do: NAME_NAMESPACE(UID).
func Describe(p *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID)
}

// probed sets whether the container has started and is ready, from its probes. A probe that has not concluded
// since the daemon started leaves what was said of the same container before.
func (r *reporter) probed(c *v1.Container, st, prev *v1.ContainerStatus, k kind) {
	started, ready := false, false
	if st.State.Running != nil {
		run := r.o.newest(c.Name)
		pr := r.o.Probes[run.ID]
		same := prev != nil && prev.ContainerID == st.ContainerID && prev.State.Running != nil
		switch {
		case c.StartupProbe == nil:
			started = true
		case pr.Started != nil:
			started = *pr.Started
		default:
			started = same && prev.Started != nil && *prev.Started
		}
		switch {
		case !started:
		case c.ReadinessProbe == nil:
			ready = true
		case pr.Ready != nil:
			ready = *pr.Ready
		default:
			ready = same && prev.Ready
		}
	}
	if k == initKind && !podutil.IsSidecar(c) {
		end := st.State.Terminated
		ready = end != nil && !failedEnd(r.pod, c.Name, end.Reason, end.ExitCode)
	}
	st.Started, st.Ready = &started, ready
}
