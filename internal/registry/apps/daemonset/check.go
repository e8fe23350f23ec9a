package daemonset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

func check(_ context.Context, d *appsv1.DaemonSet) field.ErrorList {
	faults := validate.Meta(&d.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(faults, checkSpec(&d.Spec, nil, false, field.NewPath("spec"))...)
}

func checkUpdate(_ context.Context, d, old *appsv1.DaemonSet) field.ErrorList {
	path := field.NewPath("spec")
	faults := validate.MetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, validate.Immutable(d.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	lenient := metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	return append(faults, checkSpec(&d.Spec, &old.Spec.Template, lenient, path)...)
}

// checkSpec validates a spec. old is the stored template, or nil. lenient allows invalid label values in the
// selector.
func checkSpec(s *appsv1.DaemonSetSpec, old *corev1.PodTemplateSpec, lenient bool, path *field.Path) field.ErrorList {
	at := path.Child("selector")
	faults := metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: lenient}, at)
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	if err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		faults = append(faults, field.Invalid(path.Child("template", "metadata", "labels"), s.Template.Labels, workload.NoMatch))
	}
	if s.Selector != nil {
		faults = append(faults, workload.NotEmpty(s.Selector, "daemonset", at)...)
	}
	at = path.Child("template")
	faults = append(faults, podspec.CheckTemplate(&s.Template, old, at)...)
	faults = append(faults, workload.RunsForEver(&s.Template, "DaemonSet", at)...)
	faults = append(faults, workload.NonNegative(path, workload.Number("minReadySeconds", s.MinReadySeconds))...)
	faults = append(faults, checkStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	return append(faults, workload.NonNegative(path, workload.Optional("revisionHistoryLimit", s.RevisionHistoryLimit))...)
}

func checkStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch {
	case s.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case s.Type != appsv1.RollingUpdateDaemonSetStrategyType:
		return field.ErrorList{field.NotSupported(path, validate.Shown(s), []string{string(appsv1.RollingUpdateDaemonSetStrategyType), string(appsv1.OnDeleteDaemonSetStrategyType)})}
	case s.RollingUpdate == nil:
		return field.ErrorList{field.Required(at, "")}
	}
	return checkRollingUpdate(s.RollingUpdate, at)
}

// checkRollingUpdate requires that an update can proceed, either by removing Pods first or by adding some.
func checkRollingUpdate(u *appsv1.RollingUpdateDaemonSet, path *field.Path) field.ErrorList {
	unavailable, surge := validate.OrZero(u.MaxUnavailable), validate.OrZero(u.MaxSurge)
	atUnavailable, atSurge := path.Child("maxUnavailable"), path.Child("maxSurge")
	faults := validate.IntOrPercent(unavailable, atUnavailable)
	faults = append(faults, validate.IntOrPercent(surge, atSurge)...)
	faults = append(faults, validate.AtMost100Percent(unavailable, atUnavailable)...)
	faults = append(faults, validate.AtMost100Percent(surge, atSurge)...)
	switch without, more := !validate.IsZero(unavailable), !validate.IsZero(surge); {
	case without && more:
		faults = append(faults, field.Invalid(atSurge, surge, "may not be set when maxUnavailable is non-zero"))
	case !without && !more:
		faults = append(faults, field.Required(atUnavailable, "cannot be 0 when maxSurge is 0"))
	}
	return faults
}

func checkStatusUpdate(_ context.Context, d, old *appsv1.DaemonSet) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	faults := validate.MetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, workload.NonNegative(path,
		workload.Number("currentNumberScheduled", s.CurrentNumberScheduled),
		workload.Number("numberMisscheduled", s.NumberMisscheduled),
		workload.Number("desiredNumberScheduled", s.DesiredNumberScheduled),
		workload.Number("numberReady", s.NumberReady),
		workload.Number("observedGeneration", s.ObservedGeneration),
		workload.Number("updatedNumberScheduled", s.UpdatedNumberScheduled),
		workload.Number("numberAvailable", s.NumberAvailable),
		workload.Number("numberUnavailable", s.NumberUnavailable),
		workload.Optional("collisionCount", s.CollisionCount),
	)...)
	return append(faults, workload.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path)...)
}
