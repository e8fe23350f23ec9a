package deployment

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/workload"
)

func check(_ context.Context, d *appsv1.Deployment) field.ErrorList {
	faults := validate.Meta(&d.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(faults, checkSpec(&d.Spec, nil, field.NewPath("spec"))...)
}

func checkUpdate(_ context.Context, d, old *appsv1.Deployment) field.ErrorList {
	path := field.NewPath("spec")
	faults := validate.MetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkSpec(&d.Spec, &old.Spec.Template, path)...)
	return append(faults, validate.Immutable(d.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
}

// checkSpec validates a spec. old is the stored template, or nil.
func checkSpec(s *appsv1.DeploymentSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	faults := workload.NonNegative(path, workload.Optional("replicas", s.Replicas))
	faults = append(faults, workload.SelectorAndTemplate(s.Selector, &s.Template, old, "deployment", "ReplicaSet", path)...)
	faults = append(faults, checkStrategy(&s.Strategy, path.Child("strategy"))...)
	faults = append(faults, workload.NonNegative(path,
		workload.Number("minReadySeconds", s.MinReadySeconds),
		workload.Optional("revisionHistoryLimit", s.RevisionHistoryLimit),
		workload.Optional("progressDeadlineSeconds", s.ProgressDeadlineSeconds),
	)...)
	if p := s.ProgressDeadlineSeconds; p != nil && *p <= s.MinReadySeconds {
		faults = append(faults, field.Invalid(path.Child("progressDeadlineSeconds"), p, "must be greater than minReadySeconds"))
	}
	return faults
}

func checkStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at, "may not be specified when strategy `type` is '"+string(appsv1.RecreateDeploymentStrategyType)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		return checkRollingUpdate(s.RollingUpdate, at)
	}
	return field.ErrorList{field.NotSupported(path, validate.Shown(s), []string{string(appsv1.RecreateDeploymentStrategyType), string(appsv1.RollingUpdateDeploymentStrategyType)})}
}

func checkRollingUpdate(u *appsv1.RollingUpdateDeployment, path *field.Path) field.ErrorList {
	unavailable, surge := validate.OrZero(u.MaxUnavailable), validate.OrZero(u.MaxSurge)
	at := path.Child("maxUnavailable")
	faults := validate.IntOrPercent(unavailable, at)
	faults = append(faults, validate.IntOrPercent(surge, path.Child("maxSurge"))...)
	if validate.IsZero(unavailable) && validate.IsZero(surge) {
		faults = append(faults, field.Invalid(at, unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(faults, validate.AtMost100Percent(unavailable, at)...)
}

func checkStatusUpdate(_ context.Context, d, old *appsv1.Deployment) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	updated := workload.Number("updatedReplicas", s.UpdatedReplicas)
	ready := workload.Number("readyReplicas", s.ReadyReplicas)
	available := workload.Number("availableReplicas", s.AvailableReplicas)
	faults := validate.MetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, workload.NonNegative(path,
		workload.Number("observedGeneration", s.ObservedGeneration),
		workload.Number("replicas", s.Replicas),
		updated, ready, available,
		workload.Number("unavailableReplicas", s.UnavailableReplicas),
		workload.Optional("terminatingReplicas", s.TerminatingReplicas),
		workload.Optional("collisionCount", s.CollisionCount),
	)...)
	faults = append(faults, workload.AtMost(s.Replicas, "status.replicas", path, updated, ready, available)...)
	faults = append(faults, workload.AtMost(s.ReadyReplicas, "readyReplicas", path, available)...)
	return append(faults, workload.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path)...)
}
