package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// The reasons of conditions.
const (
	containersNotReady       = "ContainersNotReady"
	containersNotInitialized = "ContainersNotInitialized"
	readinessGatesNotReady   = "ReadinessGatesNotReady"
	podCompleted             = "PodCompleted"
	podFailed                = "PodFailed"
	podSandboxNotReady       = "PodSandboxNotReady"
	restartAllStarted        = "RestartAllContainersStarted"
)

// owned are the conditions that are the node's alone to say.
var owned = []v1.PodConditionType{
	v1.PodScheduled, v1.PodReady, v1.PodInitialized, v1.ContainersReady, v1.PodResizeInProgress,
	v1.PodResizePending, v1.PodReadyToStartContainers, v1.AllContainersRestarting,
}

// conditions sets all conditions: those of others as they are, the node's as they follow from the rest of
// the status.
func (r *reporter) conditions(st *v1.PodStatus) {
	p := r.pod
	for _, c := range p.Status.Conditions {
		if !slices.Contains(owned, c.Type) && c.Type != v1.DisruptionTarget {
			st.Conditions = append(st.Conditions, c)
		}
	}
	if pending := r.o.Orders.Pending; pending != nil && !r.ended {
		st.Conditions = append(st.Conditions, *pending)
	}
	if !r.ended && (r.resizes || Resizing(p, r.o)) {
		st.Conditions = append(st.Conditions, r.resizing())
	}
	if c := r.disruption(); c != nil {
		st.Conditions = append(st.Conditions, *c)
	}
	all := slices.Concat(st.InitContainerStatuses, st.ContainerStatuses)
	r.add(st, r.sandboxReady())
	r.add(st, r.initialized(all, st.Phase))
	r.add(st, r.ready(all, st))
	r.add(st, r.containersReady(all, st.Phase))
	r.add(st, v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue})
	if canRestartAll(p) {
		c := r.allRestarting(st.Phase)
		c.LastTransitionTime = r.since(c)
		st.Conditions = append(st.Conditions, c)
	}
}

// resizing is the condition of a Pod that is not held to what is allocated yet. It is of the generation that
// was granted, whatever the spec has become since.
func (r *reporter) resizing() v1.PodCondition {
	c := v1.PodCondition{
		Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, ObservedGeneration: r.o.Orders.Resize,
		LastProbeTime: metav1.NewTime(r.o.Now), LastTransitionTime: metav1.NewTime(r.o.Now),
	}
	if c.ObservedGeneration == 0 {
		c.ObservedGeneration = r.pod.Generation
	}
	if step := &r.o.Work.Resize; step.Reason != "" {
		c.Reason, c.Message = step.Reason, step.Message
	}
	if old := condition(r.prev.Conditions, c.Type); old != nil && old.Reason == c.Reason {
		c.LastProbeTime, c.LastTransitionTime = old.LastProbeTime, old.LastTransitionTime
	}
	return c
}

// add adds a condition of the node with its generation and the time since when it is so.
func (r *reporter) add(st *v1.PodStatus, c v1.PodCondition) {
	c.ObservedGeneration = r.pod.Generation
	c.LastTransitionTime = r.since(c)
	st.Conditions = append(st.Conditions, c)
}

// since is when the condition came to have its status.
func (r *reporter) since(c v1.PodCondition) metav1.Time {
	if old := condition(r.prev.Conditions, c.Type); old != nil && old.Status == c.Status {
		return old.LastTransitionTime
	}
	return metav1.NewTime(r.o.Now)
}

// disruption is the condition of a Pod that the node or someone else is about to end.
func (r *reporter) disruption() *v1.PodCondition {
	if e := r.o.Orders.Evict; e != nil && e.Disruption != "" {
		c := v1.PodCondition{
			Type: v1.DisruptionTarget, Status: v1.ConditionTrue, ObservedGeneration: r.pod.Generation,
			Reason: e.DisruptionReason, Message: e.Disruption,
		}
		c.LastTransitionTime = r.since(c)
		return &c
	}
	if c := condition(r.pod.Status.Conditions, v1.DisruptionTarget); c != nil {
		return c
	}
	return condition(r.prev.Conditions, v1.DisruptionTarget)
}

func (r *reporter) sandboxReady() v1.PodCondition {
	why, _ := sandboxNeed(r.pod, r.o)
	if why == "" {
		return v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue}
	}
	if had := condition(r.prev.Conditions, v1.PodReadyToStartContainers); why == noSandbox && r.ended && had != nil && had.Status == v1.ConditionFalse {
		why = had.Message // that the sandbox of a Pod that has ended is also forgotten is no news
	}
	return v1.PodCondition{
		Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse, Reason: podSandboxNotReady, Message: why,
	}
}

// initialized is true when all init containers have done their part.
func (r *reporter) initialized(all []v1.ContainerStatus, phase v1.PodPhase) v1.PodCondition {
	yes := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	var unknown, incomplete []string
	for i := range r.pod.Spec.InitContainers {
		c := &r.pod.Spec.InitContainers[i]
		switch s := find(all, c.Name); {
		case s == nil:
			unknown = append(unknown, c.Name)
		case podutil.IsSidecar(c) && (s.Started == nil || !*s.Started), !podutil.IsSidecar(c) && !s.Ready:
			incomplete = append(incomplete, c.Name)
		}
	}
	if phase == v1.PodSucceeded && len(unknown) == 0 {
		yes.Reason = podCompleted
		return yes
	}
	for i := range r.pod.Spec.Containers {
		if s := find(all, r.pod.Spec.Containers[i].Name); s != nil && (s.State.Running != nil || s.State.Terminated != nil) {
			return yes
		}
	}
	message := list("containers with unknown status", unknown, "containers with incomplete status", incomplete)
	if message == "" {
		return yes
	}
	// What was initialized once stays so while the Pod is restarted in place.
	if old := condition(r.prev.Conditions, v1.PodInitialized); old != nil && old.Status == v1.ConditionTrue {
		return yes
	}
	return v1.PodCondition{
		Type: v1.PodInitialized, Status: v1.ConditionFalse, Reason: containersNotInitialized, Message: message,
	}
}

// list joins two headed lists of names into a condition's message, "" when both are empty.
func list(head1 string, names1 []string, head2 string, names2 []string) string {
	var parts []string
	if len(names1) > 0 {
		parts = append(parts, fmt.Sprintf("%s: %s", head1, names1))
	}
	if len(names2) > 0 {
		parts = append(parts, fmt.Sprintf("%s: %s", head2, names2))
	}
	return strings.Join(parts, ", ")
}

// containersReady is true when all regular containers and sidecars are ready.
func (r *reporter) containersReady(all []v1.ContainerStatus, phase v1.PodPhase) v1.PodCondition {
	var unknown, unready []string
	check := func(c *v1.Container) {
		switch s := find(all, c.Name); {
		case s == nil:
			unknown = append(unknown, c.Name)
		case !s.Ready:
			unready = append(unready, c.Name)
		}
	}
	for i := range r.pod.Spec.InitContainers {
		if c := &r.pod.Spec.InitContainers[i]; podutil.IsSidecar(c) {
			check(c)
		}
	}
	for i := range r.pod.Spec.Containers {
		check(&r.pod.Spec.Containers[i])
	}
	no := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch {
	case phase == v1.PodSucceeded && len(unknown) == 0:
		no.Reason = podCompleted
		return no
	case phase == v1.PodFailed:
		no.Reason = podFailed
		return no
	}
	no.Message = list("containers with unknown status", unknown, "containers with unready status", unready)
	if no.Message != "" {
		no.Reason = containersNotReady
		return no
	}
	return v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionTrue}
}

// ready is true when the containers are and every readiness gate is open.
func (r *reporter) ready(all []v1.ContainerStatus, st *v1.PodStatus) v1.PodCondition {
	c := r.containersReady(all, st.Phase)
	c.Type = v1.PodReady
	if c.Status != v1.ConditionTrue {
		return c
	}
	var messages []string
	for _, gate := range r.pod.Spec.ReadinessGates {
		switch g := condition(st.Conditions, gate.ConditionType); {
		case g == nil:
			messages = append(messages, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case g.Status != v1.ConditionTrue:
			messages = append(messages, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, g.Status))
		}
	}
	if len(messages) > 0 {
		c.Status, c.Reason, c.Message = v1.ConditionFalse, readinessGatesNotReady, strings.Join(messages, ", ")
	}
	return c
}

// allRestarting is true while the whole Pod is being restarted in place.
func (r *reporter) allRestarting(phase v1.PodPhase) v1.PodCondition {
	c := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	switch {
	case phase == v1.PodSucceeded:
		c.Reason = podCompleted
	case phase == v1.PodFailed:
		c.Reason = podFailed
	case r.restarting && r.anyLeft():
		c.Status, c.Reason = v1.ConditionTrue, restartAllStarted
		c.Message = "container exited with restart policy rule"
	}
	return c
}

// anyLeft reports whether the runtime still knows any container that a restart of the whole Pod removes.
func (r *reporter) anyLeft() bool {
	for _, l := range [][]v1.Container{r.pod.Spec.InitContainers, r.pod.Spec.Containers} {
		for i := range l {
			if r.o.newest(l[i].Name) != nil {
				return true
			}
		}
	}
	return false
}
