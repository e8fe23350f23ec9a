package podautoscaler

import (
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tolerance is how far a metric may be from its target, as a part of it, unless the behavior says otherwise.
const tolerance = 0.1

// round is one decision about an autoscaler. It changes the status of its copy of the autoscaler and collects events;
// the controller writes both.
type round struct {
	a      *autoscalingv2.HorizontalPodAutoscaler
	memory *memory
	now    time.Time

	current, desired int32
	reason           string // of a change, for its event
	measured         []autoscalingv2.MetricStatus
	events           []event
}

type event struct{ kind, reason, message string }

// newRound begins a decision about an autoscaler, which it copies.
func newRound(a *autoscalingv2.HorizontalPodAutoscaler, m *memory, now time.Time) *round {
	return &round{a: a.DeepCopy(), memory: m, now: now}
}

func (r *round) warn(reason, message string) {
	r.events = append(r.events, event{corev1.EventTypeWarning, reason, message})
}

// condition sets a condition. The time of its transition is now if its status changes.
func (r *round) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool, reason, message string) {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	c := r.find(kind)
	if c == nil {
		r.a.Status.Conditions = append(r.a.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind})
		c = r.find(kind)
	}
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(r.now)
	}
	c.Status, c.Reason, c.Message = status, reason, message
}

func (r *round) find(kind autoscalingv2.HorizontalPodAutoscalerConditionType) *autoscalingv2.HorizontalPodAutoscalerCondition {
	for i := range r.a.Status.Conditions {
		if c := &r.a.Status.Conditions[i]; c.Type == kind {
			return c
		}
	}
	return nil
}

// noScale notes that the scale of the target cannot be read.
func (r *round) noScale(err error) {
	r.warn("FailedGetScale", err.Error())
	r.condition(autoscalingv2.AbleToScale, false, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
}

func (r *round) least() int32 {
	if n := r.a.Spec.MinReplicas; n != nil {
		return *n
	}
	return 1
}

// begin takes the target's scale in. It reports whether the metrics decide; if not, the decision is made: a number
// outside the bounds is brought inside, and a target that someone else scaled to zero is left alone.
func (r *round) begin(scale *autoscalingv1.Scale) (byMetrics bool) {
	r.condition(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	r.current, r.desired = scale.Spec.Replicas, scale.Spec.Replicas
	if len(r.memory.recommended) == 0 {
		r.memory.recommended = []recommendation{{r.current, r.now}}
	}
	switch {
	case r.current == 0:
		if r.scaledToZero() && (r.least() != 0 || r.outside()) {
			return true
		}
		r.condition(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return false
	case r.current > r.a.Spec.MaxReplicas:
		r.desired, r.reason = r.a.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
		return false
	case r.current < r.least():
		r.desired, r.reason = r.least(), belowLeast
		return false
	}
	return true
}

const belowLeast = "Current number of replicas below Spec.MinReplicas"

// scaledToZero reports whether it was this autoscaler that scaled its target to zero.
func (r *round) scaledToZero() bool {
	c := r.find(autoscalingv2.ScaledToZero)
	return c != nil && c.Status == corev1.ConditionTrue
}

// outside reports whether some metric is not of the Pods, so that it can be measured without any.
func (r *round) outside() bool {
	for i := range r.a.Spec.Metrics {
		if t := r.a.Spec.Metrics[i].Type; t == autoscalingv2.ObjectMetricSourceType || t == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}

// badSelector notes that the target's Pods cannot be told.
func (r *round) badSelector(reason, event, message, condition string) {
	r.warn(event, message)
	r.condition(autoscalingv2.ScalingActive, false, reason, condition)
	r.cannotCompute(message)
}

// cannotCompute ends a decision without a number.
func (r *round) cannotCompute(message string) {
	r.seen(r.a.Status.DesiredReplicas)
	r.warn("FailedComputeMetricsReplicas", message)
}

// tolerances returns how far metrics may be from their targets.
func (r *round) tolerances() tolerances {
	t := tolerances{tolerance, tolerance}
	if b := r.a.Spec.Behavior; b != nil {
		if b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
			t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
		}
		if b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
			t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
		}
	}
	return t
}

// decide decides by readings of the metrics: the highest proposal counts, within the bounds and as fast as the
// behavior allows. If metrics are missing, the others may add replicas but not remove any. It returns false if there
// is no decision.
func (r *round) decide(t target, readings []reading) bool {
	metrics := r.a.Spec.Metrics
	r.measured = make([]autoscalingv2.MetricStatus, len(metrics))
	var highest proposal
	var first *failure
	failures := 0
	for i := range metrics {
		p, failure := t.propose(&metrics[i], readings[i])
		if failure != nil {
			r.warn(failure.reason, failure.cause.Error())
			if failures++; first == nil {
				first = failure
			}
			continue
		}
		r.measured[i] = p.status
		if highest.replicas == 0 || p.replicas > highest.replicas {
			highest = p
		}
	}
	if failures == len(metrics) || failures > 0 && highest.replicas < t.wanted {
		r.condition(autoscalingv2.ScalingActive, false, first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.cause))
		r.cannotCompute(fmt.Sprintf("invalid metrics (%v invalid out of %v), first error is: %v", failures, len(metrics), first.err))
		return false
	}
	r.condition(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+highest.metric)
	r.settle(highest)
	return true
}

// settle bounds what the metrics ask for.
func (r *round) settle(p proposal) {
	switch {
	case p.replicas > r.current:
		r.reason = p.metric + " above target"
	case p.replicas < r.current:
		r.reason = "All metrics below target"
	}
	b, stable := r.a.Spec.Behavior, int32(0)
	if b == nil {
		stable = r.memory.highest(p.replicas, r.now)
	} else {
		stable = r.memory.stabilize(r.current, p.replicas, b, r.now)
	}
	switch {
	case stable == p.replicas:
		r.condition(autoscalingv2.AbleToScale, true, "ReadyForNewScale", "recommended size matches current size")
	case b != nil && p.replicas >= r.current:
		r.condition(autoscalingv2.AbleToScale, true, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		r.condition(autoscalingv2.AbleToScale, true, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	var why verdict
	if b == nil {
		r.desired, why = limitByDefault(r.current, stable, r.least(), r.a.Spec.MaxReplicas)
	} else {
		r.desired, why = r.memory.limitByPolicies(r.current, stable, r.least(), r.a.Spec.MaxReplicas, b, r.now)
	}
	r.condition(autoscalingv2.ScalingLimited, r.desired != stable, why.reason, why.message)
	if r.current == 0 { // the policies, which count from the current number, leave it as it is
		if r.desired = max(r.desired, r.least()); r.desired > 0 && r.reason == "" {
			r.reason = belowLeast
		}
	}
}

// toZero reports whether the decision is to remove the last replica. The condition that says so must be written
// before it is carried out: without it, a target without replicas is left alone for good.
func (r *round) toZero() bool {
	return r.current > 0 && r.desired == 0 && r.least() == 0 && r.outside()
}

// noteZero sets the condition that remembers who scaled to zero.
func (r *round) noteZero() {
	if r.toZero() {
		r.condition(autoscalingv2.ScaledToZero, true, "ScaledToZero", "the HPA controller scaled the workload to zero")
	} else {
		r.condition(autoscalingv2.ScaledToZero, false, "NotScaledToZero", "the HPA controller did not scale the workload to zero")
	}
}

// scaled notes that the decision was carried out.
func (r *round) scaled() {
	r.condition(autoscalingv2.AbleToScale, true, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", r.desired))
	r.events = append(r.events, event{corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", r.desired, r.reason)})
	r.memory.changed(r.current, r.desired, r.a.Spec.Behavior, r.now)
	r.noteZero()
	r.a.Status.LastScaleTime = &metav1.Time{Time: r.now}
	r.seen(r.desired)
}

// notScaled notes that the decision could not be carried out.
func (r *round) notScaled(err error) {
	r.warn("FailedRescale", fmt.Sprintf("New size: %d; reason: %s; error: %v", r.desired, r.reason, err))
	r.condition(autoscalingv2.AbleToScale, false, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
	r.seen(r.a.Status.DesiredReplicas)
}

// seen enters what was seen and decided into the status.
func (r *round) seen(desired int32) {
	s := &r.a.Status
	s.CurrentReplicas, s.DesiredReplicas, s.CurrentMetrics = r.current, desired, r.measured
	s.ObservedGeneration = new(r.a.Generation)
}
