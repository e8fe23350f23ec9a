package statefulset

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

// tolerated defines what an update may keep of a stored set that violates a newer rule or can no longer be
// changed. old is the stored template.
type tolerated struct {
	serviceName, claims, template bool
	old                           *corev1.PodTemplateSpec
}

func check(_ context.Context, s *appsv1.StatefulSet) field.ErrorList {
	faults := validate.Meta(&s.ObjectMeta, true, apivalidation.NameIsDNSLabel)
	return append(faults, checkSpec(&s.Spec, tolerated{}, field.NewPath("spec"))...)
}

func checkUpdate(_ context.Context, s, old *appsv1.StatefulSet) field.ErrorList {
	path := field.NewPath("spec")
	keep := tolerated{serviceName: true, claims: true, old: &old.Spec.Template}
	keep.template = len(checkSpec(&old.Spec, keep, path)) > 0
	faults := validate.MetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkSpec(&s.Spec, keep, path)...)
	for _, f := range []struct {
		name     string
		now, old any
	}{
		{"selector", s.Spec.Selector, old.Spec.Selector},
		{"volumeClaimTemplates", s.Spec.VolumeClaimTemplates, old.Spec.VolumeClaimTemplates},
		{"serviceName", s.Spec.ServiceName, old.Spec.ServiceName},
		{"podManagementPolicy", s.Spec.PodManagementPolicy, old.Spec.PodManagementPolicy},
	} {
		faults = append(faults, validate.Immutable(f.now, f.old, path.Child(f.name))...)
	}
	return faults
}

func checkSpec(s *appsv1.StatefulSetSpec, keep tolerated, path *field.Path) field.ErrorList {
	faults := checkManagement(s.PodManagementPolicy, path.Child("podManagementPolicy"))
	faults = append(faults, checkStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	faults = append(faults, checkRetention(s.PersistentVolumeClaimRetentionPolicy, path.Child("persistentVolumeClaimRetentionPolicy"))...)
	if !keep.claims {
		for i := range s.VolumeClaimTemplates {
			at := path.Child("volumeClaimTemplates").Index(i).Child("spec")
			faults = append(faults, podspec.CheckClaimSpec(&s.VolumeClaimTemplates[i].Spec, podspec.ClaimLenience{}, at)...)
		}
	}
	faults = append(faults, workload.NonNegative(path, workload.Optional("replicas", s.Replicas), workload.Number("minReadySeconds", s.MinReadySeconds))...)
	if s.Ordinals != nil {
		faults = append(faults, workload.NonNegative(path, workload.Number("ordinals.start", s.Ordinals.Start))...)
	}
	if !keep.serviceName && s.ServiceName != "" {
		faults = append(faults, validate.Label(s.ServiceName, path.Child("serviceName"))...)
	}
	at := path.Child("selector")
	if s.Selector == nil {
		faults = append(faults, field.Required(at, ""))
	} else {
		faults = append(faults, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
		faults = append(faults, workload.NotEmpty(s.Selector, "statefulset", at)...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err != nil {
		faults = append(faults, field.Invalid(at, s.Selector, ""))
	} else {
		faults = append(faults, checkTemplate(s, selector, keep, path.Child("template"))...)
	}
	return append(faults, workload.RunsForEver(&s.Template, "StatefulSet", path.Child("template"))...)
}

// checkTemplate validates the template in the form of its Pods: the controller sets their names and mounts the
// claims.
func checkTemplate(s *appsv1.StatefulSetSpec, selector labels.Selector, keep tolerated, path *field.Path) field.ErrorList {
	template := s.Template.DeepCopy()
	template.Spec.Subdomain, template.Spec.Hostname = "", ""
	if len(s.VolumeClaimTemplates) > 0 {
		template.Spec.Volumes = volumes(s)
	}
	faults := workload.Matches(selector, template, path)
	if !keep.template {
		faults = append(faults, podspec.CheckTemplate(template, keep.old, path)...)
	}
	// Kubernetes validates these twice and reports both.
	annotations := path.Child("annotations")
	faults = append(faults, metav1validation.ValidateLabels(template.Labels, path.Child("labels"))...)
	faults = append(faults, apivalidation.ValidateAnnotations(template.Annotations, annotations)...)
	return append(faults, podspec.CheckAnnotations(template.Annotations, &template.Spec, podspec.LenienceOfTemplate(keep.old), annotations)...)
}

// volumes returns the volumes of the claims, and those of the template that no claim replaces.
func volumes(s *appsv1.StatefulSetSpec) (list []corev1.Volume) {
	claims := sets.New[string]()
	for _, c := range s.VolumeClaimTemplates {
		if claims.Has(c.Name) {
			continue
		}
		claims.Insert(c.Name)
		list = append(list, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name},
		}})
	}
	for _, v := range s.Template.Spec.Volumes {
		if !claims.Has(v.Name) {
			list = append(list, v)
		}
	}
	return list
}

func checkManagement(policy appsv1.PodManagementPolicyType, path *field.Path) field.ErrorList {
	switch policy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.Invalid(path, policy, fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement))}
}

func checkStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(path.Child("rollingUpdate"), validate.Shown(s.RollingUpdate),
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate == nil {
			return nil
		}
		return checkRollingUpdate(s.RollingUpdate, path.Child("rollingUpdate"))
	}
	return field.ErrorList{field.Invalid(path, validate.Shown(s), fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
}

func checkRollingUpdate(u *appsv1.RollingUpdateStatefulSetStrategy, path *field.Path) field.ErrorList {
	faults := workload.NonNegative(path, workload.Optional("partition", u.Partition))
	if u.MaxUnavailable == nil {
		return faults
	}
	at := path.Child("maxUnavailable")
	faults = append(faults, validate.IntOrPercent(*u.MaxUnavailable, at)...)
	if validate.IsZero(*u.MaxUnavailable) {
		faults = append(faults, field.Invalid(at, *u.MaxUnavailable, "cannot be 0"))
	}
	return append(faults, validate.AtMost100Percent(*u.MaxUnavailable, at)...)
}

func checkRetention(p *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy, path *field.Path) (faults field.ErrorList) {
	if p == nil {
		return nil
	}
	known := []string{string(appsv1.RetainPersistentVolumeClaimRetentionPolicyType), string(appsv1.DeletePersistentVolumeClaimRetentionPolicyType)}
	for _, when := range []struct {
		name string
		what appsv1.PersistentVolumeClaimRetentionPolicyType
	}{{"whenDeleted", p.WhenDeleted}, {"whenScaled", p.WhenScaled}} {
		if what := string(when.what); what != known[0] && what != known[1] {
			faults = append(faults, field.NotSupported(path.Child(when.name), when.what, known))
		}
	}
	return faults
}

func checkStatusUpdate(_ context.Context, set, old *appsv1.StatefulSet) field.ErrorList {
	path, s := field.NewPath("status"), &set.Status
	ready := workload.Number("readyReplicas", s.ReadyReplicas)
	current := workload.Number("currentReplicas", s.CurrentReplicas)
	updated := workload.Number("updatedReplicas", s.UpdatedReplicas)
	available := workload.Number("availableReplicas", s.AvailableReplicas)
	faults := workload.NonNegative(path,
		workload.Number("replicas", s.Replicas), ready, current, updated, available,
		workload.Number("observedGeneration", s.ObservedGeneration),
		workload.Optional("collisionCount", s.CollisionCount),
	)
	faults = append(faults, workload.AtMost(s.Replicas, "status.replicas", path, ready, current, updated, available)...)
	faults = append(faults, workload.AtMost(s.ReadyReplicas, "status.readyReplicas", path, available)...)
	faults = append(faults, validate.MetaUpdate(&set.ObjectMeta, &old.ObjectMeta)...)
	return append(faults, workload.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path)...)
}
