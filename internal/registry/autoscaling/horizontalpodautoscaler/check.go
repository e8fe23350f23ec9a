package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/workload"
)

// The maxima of a policy's period and of a stabilization window, in seconds.
const (
	maxPeriod = int32(1800)
	maxWindow = int32(3600)
)

// reference defines how the reference to another object is validated.
type reference struct { // the API group may be the core group
	core    bool // the version is not checked
	version bool // the version is not looked at
}

func check(_ context.Context, a *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	scaled, object := references(a, nil)
	return validate.InOrder(
		validate.Meta(&a.ObjectMeta, true, apivalidation.NameIsDNSSubdomain),
		checkSpec(&a.Spec, scaled, object, field.NewPath("spec")),
	)
}

func checkUpdate(_ context.Context, a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	scaled, object := references(a, old)
	return validate.InOrder(
		validate.MetaUpdate(&a.ObjectMeta, &old.ObjectMeta),
		checkSpec(&a.Spec, scaled, object, field.NewPath("spec")),
	)
}

// references returns the rules for the references to the scaled object and to measured objects. Values that old
// already had are accepted.
func references(a, old *autoscalingv2.HorizontalPodAutoscaler) (scaled, object reference) {
	object = reference{core: true}
	now := a.Spec.ScaleTargetRef
	scaled.core = now.Kind == "ReplicationController"
	if old == nil {
		return scaled, object
	}
	before := old.Spec.ScaleTargetRef
	scaled.version = now.APIVersion == before.APIVersion && now.Kind == before.Kind
	for _, m := range old.Spec.Metrics {
		if m.Object != nil && m.Type == autoscalingv2.ObjectMetricSourceType && object.checkVersion(m.Object.DescribedObject.APIVersion) != nil {
			object.version = true
		}
	}
	return scaled, object
}

func (r reference) checkVersion(version string) error {
	if r.version {
		return nil
	}
	gv, err := schema.ParseGroupVersion(version)
	if err == nil && gv.Group == "" && !r.core {
		err = errors.New("apiVersion must specify API group")
	}
	return err
}

func (r reference) check(o autoscalingv2.CrossVersionObjectReference, path *field.Path) (faults field.ErrorList) {
	faults = append(faults, validate.Segment(o.Kind, path.Child("kind"))...)
	faults = append(faults, validate.Segment(o.Name, path.Child("name"))...)
	if err := r.checkVersion(o.APIVersion); err != nil {
		faults = append(faults, field.Invalid(path.Child("apiVersion"), o.APIVersion, err.Error()))
	}
	return faults
}

func checkSpec(s *autoscalingv2.HorizontalPodAutoscalerSpec, scaled, object reference, path *field.Path) (faults field.ErrorList) {
	if n := s.MinReplicas; n != nil {
		faults = append(faults, validate.Declared(workload.NonNegative(path, workload.Number("minReplicas", *n))...)...)
	}
	most := path.Child("maxReplicas")
	if s.MaxReplicas == 0 {
		faults = append(faults, validate.Missing(most))
	} else if s.MaxReplicas < 0 {
		faults = append(faults, validate.Declared(field.Invalid(most, s.MaxReplicas, "must be greater than or equal to 1"))...)
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		faults = append(faults, field.Invalid(most, s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	faults = append(faults, scaled.check(s.ScaleTargetRef, path.Child("scaleTargetRef"))...)
	faults = append(faults, checkMetrics(s, object, path.Child("metrics"))...)
	if b := s.Behavior; b != nil {
		faults = append(faults, checkRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		faults = append(faults, checkRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return faults
}

func checkRules(r *autoscalingv2.HPAScalingRules, path *field.Path) (faults field.ErrorList) {
	if r == nil {
		return nil
	}
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		faults = append(faults, field.Invalid(path.Child("stabilizationWindowSeconds"), w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxWindow {
		faults = append(faults, field.Invalid(path.Child("stabilizationWindowSeconds"), w, fmt.Sprintf("must be less than or equal to %v", maxWindow)))
	}
	if p := r.SelectPolicy; p != nil {
		switch *p {
		case autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect:
		default:
			faults = append(faults, field.NotSupported(path.Child("selectPolicy"), p, []string{
				string(autoscalingv2.DisabledPolicySelect), string(autoscalingv2.MaxChangePolicySelect), string(autoscalingv2.MinChangePolicySelect)}))
		}
	}
	at := path.Child("policies")
	if len(r.Policies) == 0 {
		faults = append(faults, field.Required(at, "must specify at least one Policy"))
	}
	for i := range r.Policies {
		faults = append(faults, checkPolicy(&r.Policies[i], at.Index(i))...)
	}
	if r.Tolerance != nil {
		faults = append(faults, validate.NonNegativeQuantity(*r.Tolerance, path.Child("tolerance"))...)
	}
	return faults
}

func checkPolicy(p *autoscalingv2.HPAScalingPolicy, path *field.Path) (faults field.ErrorList) {
	if p.Type != autoscalingv2.PodsScalingPolicy && p.Type != autoscalingv2.PercentScalingPolicy {
		faults = append(faults, field.NotSupported(path.Child("type"), p.Type, []string{string(autoscalingv2.PercentScalingPolicy), string(autoscalingv2.PodsScalingPolicy)}))
	}
	if p.Value <= 0 {
		faults = append(faults, field.Invalid(path.Child("value"), p.Value, "must be greater than zero"))
	}
	if p.PeriodSeconds <= 0 {
		faults = append(faults, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
	}
	if p.PeriodSeconds > maxPeriod {
		faults = append(faults, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriod)))
	}
	return faults
}

func checkStatusUpdate(_ context.Context, a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	path := field.NewPath("status")
	faults := validate.MetaUpdate(&a.ObjectMeta, &old.ObjectMeta)
	for i, c := range a.Status.Conditions {
		faults = append(faults, workload.NonNegative(path.Child("conditions").Index(i), workload.Optional("observedGeneration", c.ObservedGeneration))...)
	}
	return append(faults, workload.NonNegative(path,
		workload.Number("currentReplicas", a.Status.CurrentReplicas),
		workload.Number("desiredReplicas", a.Status.DesiredReplicas),
	)...)
}
