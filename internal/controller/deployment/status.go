package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// The reasons of the condition Progressing that decide what comes next.
const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
)

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func condition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition sets a condition of the Deployment's status, see put.
func (r *rollout) setCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	put(&r.d.Status, appsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: metav1.NewTime(r.now), LastTransitionTime: metav1.NewTime(r.now),
	})
}

// put sets a condition. One with the same status and reason stays as it is, with the times and the message that it has.
func put(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if have := condition(s, c.Type); have != nil {
		if have.Status == c.Status && have.Reason == c.Reason {
			return
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
	}
	drop(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

func drop(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

// notePause tells of a pause and of its end in the condition Progressing, so that the time of the pause does not count
// against the progress deadline.
func (r *rollout) notePause() {
	if !hasDeadline(r.d) {
		return
	}
	c := condition(&r.d.Status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return
	}
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && paused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

// status computes the status from the ReplicaSets. Conditions other than Available are taken over.
func (r *rollout) status() appsv1.DeploymentStatus {
	out := appsv1.DeploymentStatus{
		ObservedGeneration: r.d.Generation, CollisionCount: r.d.Status.CollisionCount, TerminatingReplicas: terminating(r.all()),
		Conditions: slices.Clone(r.d.Status.Conditions),
	}
	for _, rs := range r.all() {
		out.Replicas += rs.Status.Replicas
		out.ReadyReplicas += rs.Status.ReadyReplicas
		out.AvailableReplicas += rs.Status.AvailableReplicas
	}
	if r.next != nil {
		out.UpdatedReplicas = r.next.Status.Replicas
	}
	out.UnavailableReplicas = max(0, total(r.all())-out.AvailableReplicas)
	now := metav1.NewTime(r.now)
	c := appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, LastUpdateTime: now, LastTransitionTime: now}
	if out.AvailableReplicas >= r.wanted()-maxUnavailable(r.d) {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."
	} else {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
	}
	put(&out, c)
	return out
}

// terminating sums the terminating replicas. It is nil when a ReplicaSet that was looked at does not tell them.
func terminating(sets []*replicaSet) *int32 {
	n := int32(0)
	for _, rs := range sets {
		switch {
		case rs.Status.TerminatingReplicas != nil:
			n += *rs.Status.TerminatingReplicas
		case rs.Status.ObservedGeneration > 0:
			return nil
		}
	}
	return &n
}

// complete reports whether all that the Deployment wants is there, new and available, and nothing else.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	want := ptr.Deref(d.Spec.Replicas, 1)
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

// advanced reports whether the roll-out has come nearer to its end from one status to the next.
func advanced(from, to *appsv1.DeploymentStatus) bool {
	return to.UpdatedReplicas > from.UpdatedReplicas || to.Replicas-to.UpdatedReplicas < from.Replicas-from.UpdatedReplicas ||
		to.ReadyReplicas > from.ReadyReplicas || to.AvailableReplicas > from.AvailableReplicas
}

// progress computes the status of a Deployment that is rolled out, with the condition Progressing and, when a ReplicaSet
// cannot make or delete its Pods, ReplicaFailure.
func (r *rollout) progress() {
	before := r.d.Status.DeepCopy()
	s := r.status()
	if !hasDeadline(r.d) {
		drop(&s, appsv1.DeploymentProgressing)
	}
	c := condition(&s, appsv1.DeploymentProgressing)
	done := s.Replicas == s.UpdatedReplicas && c != nil && c.Reason == reasonAvailable
	if hasDeadline(r.d) && !done {
		r.judge(before, &s, c)
	}
	if failure := r.replicaFailure(); failure != nil {
		put(&s, *failure)
	} else {
		drop(&s, appsv1.DeploymentReplicaFailure)
	}
	if equality.Semantic.DeepEqual(*before, s) {
		r.again = r.untilDeadline(&s)
	}
	r.d.Status = s
}

// judge sets the condition Progressing: complete, under way, or over its deadline.
func (r *rollout) judge(before, s *appsv1.DeploymentStatus, c *appsv1.DeploymentCondition) {
	what := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.next != nil {
		what = fmt.Sprintf("ReplicaSet %q", r.next.Name)
	}
	now := metav1.NewTime(r.now)
	next := appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, LastUpdateTime: now, LastTransitionTime: now}
	switch {
	case complete(r.d, s):
		next.Reason, next.Message = reasonAvailable, what+" has successfully progressed."
	case advanced(before, s):
		next.Reason, next.Message = "ReplicaSetUpdated", what+" is progressing."
		if c != nil {
			// The time of the update moves with each step, even if the reason is the same: the deadline counts from it.
			if c.Status == corev1.ConditionTrue {
				next.LastTransitionTime = c.LastTransitionTime
			}
			drop(s, appsv1.DeploymentProgressing)
		}
	case r.timedOut(c):
		next.Status, next.Reason, next.Message = corev1.ConditionFalse, reasonTimedOut, what+" has timed out progressing."
	default:
		return
	}
	put(s, next)
}

// timedOut reports whether the last progress is longer ago than the deadline allows.
func (r *rollout) timedOut(c *appsv1.DeploymentCondition) bool {
	switch {
	case c == nil || c.Reason == reasonAvailable:
		return false
	case c.Reason == reasonTimedOut:
		return true
	}
	return c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second).Before(r.now)
}

// untilDeadline returns the time until the progress deadline is over, 0 when there is none to wait for.
func (r *rollout) untilDeadline(s *appsv1.DeploymentStatus) time.Duration {
	c := condition(s, appsv1.DeploymentProgressing)
	if !hasDeadline(r.d) || c == nil || c.Reason == reasonTimedOut || complete(r.d, s) {
		return 0
	}
	left := c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second).Sub(r.now)
	// Conditions are written in whole seconds.
	return max(left, 0) + time.Second
}

// replicaFailure returns the condition of a ReplicaSet that cannot make or delete Pods, of the new one first.
func (r *rollout) replicaFailure() *appsv1.DeploymentCondition {
	sets := r.all()
	slices.Reverse(sets)
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}
