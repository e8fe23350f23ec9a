package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// Publish returns what the API is told of the Pod: the node's status, with what is not the node's to say
// as api, the API's newest status, has it. While anything of the Pod may still run it is not told that it has
// ended, for with that others may take what it holds.
func Publish(p *v1.Pod, api, st *v1.PodStatus, runs bool, now metav1.Time) v1.PodStatus {
	out := *st
	ends := !podutil.Terminal(api.Phase) && podutil.Terminal(st.Phase)
	out.Conditions = make([]v1.PodCondition, 0, len(st.Conditions)+len(api.Conditions))
	for _, c := range api.Conditions {
		if !slices.Contains(owned, c.Type) {
			out.Conditions = append(out.Conditions, c)
		}
	}
	for _, c := range st.Conditions {
		switch {
		case slices.Contains(owned, c.Type):
			out.Conditions = append(out.Conditions, c)
		case c.Type == v1.DisruptionTarget && ends && !runs:
			out.Conditions = disrupt(out.Conditions, c, now)
		}
	}
	out.NominatedNodeName = api.NominatedNodeName
	out.ResourceClaimStatuses = api.ResourceClaimStatuses
	out.ExtendedResourceClaimStatus = api.ExtendedResourceClaimStatus
	out.NodeAllocatableResourceClaimStatuses = api.NodeAllocatableResourceClaimStatuses
	out.ObservedGeneration = max(out.ObservedGeneration, api.ObservedGeneration)
	if ends && runs {
		out.Phase, out.Reason, out.Message = api.Phase, api.Reason, api.Message
	}
	if podutil.Terminal(out.Phase) {
		unready(p, &out, now)
	}
	return out
}

// disrupt puts the DisruptionTarget condition into a list; when it came to be is when it is told.
func disrupt(list []v1.PodCondition, c v1.PodCondition, now metav1.Time) []v1.PodCondition {
	old := condition(list, c.Type)
	if old == nil {
		c.LastTransitionTime = now.Rfc3339Copy()
		return append(list, c)
	}
	if old.Status != c.Status {
		c.LastTransitionTime = now.Rfc3339Copy()
	} else {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
	return list
}

// unready makes sure that a Pod that has ended is not said to be ready.
func unready(p *v1.Pod, st *v1.PodStatus, now metav1.Time) {
	reason := podFailed
	if st.Phase == v1.PodSucceeded {
		reason = podCompleted
	}
	for i := range st.Conditions {
		c := &st.Conditions[i]
		if (c.Type == v1.PodReady || c.Type == v1.ContainersReady) && c.Status == v1.ConditionTrue {
			*c = v1.PodCondition{
				Type: c.Type, Status: v1.ConditionFalse, Reason: reason, ObservedGeneration: p.Generation,
				LastProbeTime: c.LastProbeTime, LastTransitionTime: now.Rfc3339Copy(),
			}
		}
	}
}
