package persistentvolumeclaim

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

func check(_ context.Context, c *corev1.PersistentVolumeClaim) field.ErrorList {
	return checkClaim(c, podspec.ClaimLenience{})
}

func checkClaim(c *corev1.PersistentVolumeClaim, lenient podspec.ClaimLenience) field.ErrorList {
	faults := validate.Meta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(faults, podspec.CheckClaimSpec(&c.Spec, lenient, field.NewPath("spec"))...)
}

// lenienceOf returns what an update may keep of a stored claim.
func lenienceOf(old *corev1.PersistentVolumeClaim) podspec.ClaimLenience {
	wrongGroup := func(group *string) bool {
		return group != nil && *group != "" && len(utilvalidation.IsDNS1123Subdomain(*group)) > 0
	}
	s := &old.Spec
	return podspec.ClaimLenience{
		SelectorValues:  len(metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0,
		DataSourceGroup: s.DataSource != nil && wrongGroup(s.DataSource.APIGroup) || s.DataSourceRef != nil && wrongGroup(s.DataSourceRef.APIGroup),
	}
}

// checkUpdate allows a claim to be bound and to get its storage class later, and a bound claim to request more
// and other volume attributes.
func checkUpdate(_ context.Context, c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkClaim(c, lenienceOf(old))...)
	now, before := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if before.VolumeName == "" {
		before.VolumeName = now.VolumeName
	}
	faults = append(faults, settleClass(c, old, now, before)...)
	if c.Status.Phase == corev1.ClaimBound {
		if now.Resources.Requests != nil {
			now.Resources.Requests[corev1.ResourceStorage] = old.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		now.VolumeAttributesClassName = before.VolumeAttributesClassName
	}
	path := field.NewPath("spec")
	if !apiequality.Semantic.DeepEqual(now, before) {
		faults = append(faults, field.Forbidden(path, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(validate.Shown(before), validate.Shown(now)))))
	}
	size, oldSize := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if has := old.Status.Capacity[corev1.ResourceStorage]; size.Cmp(oldSize) < 0 && size.Cmp(has) <= 0 {
		faults = append(faults, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	faults = append(faults, validate.Immutable(c.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	return append(faults, checkAttributesClass(c, old, path.Child("volumeAttributesClassName"))...)
}

// settleClass removes from the comparison a storage class that was set in the old annotation, or not at all.
func settleClass(c, old *corev1.PersistentVolumeClaim, now, before *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	const annotation = corev1.BetaStorageClassAnnotation
	told, wasTold := old.Annotations[annotation]
	tells, stillTells := c.Annotations[annotation]
	toldNow := before.StorageClassName == nil && now.StorageClassName != nil
	if wasTold && toldNow && *now.StorageClassName == told && (!stillTells || tells == told) {
		now.StorageClassName = nil
		return nil
	}
	var faults field.ErrorList
	if told != tells {
		faults = append(faults, field.Invalid(field.NewPath("metadata").Child("annotations", annotation), tells, apivalidation.FieldImmutableErrorMsg))
	}
	if toldNow && (!wasTold || *now.StorageClassName == told) {
		now.StorageClassName = before.StorageClassName
	}
	return faults
}

func checkAttributesClass(c, old *corev1.PersistentVolumeClaim, path *field.Path) field.ErrorList {
	now := c.Spec.VolumeAttributesClassName
	if old.Status.CurrentVolumeAttributesClassName == nil || apiequality.Semantic.DeepEqual(now, old.Spec.VolumeAttributesClassName) {
		return nil
	}
	switch {
	case now == nil:
		return field.ErrorList{field.Forbidden(path, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil")}
	case *now == "":
		return field.ErrorList{field.Forbidden(path, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil")}
	}
	return nil
}

var resizeStates = []corev1.ClaimResourceStatus{
	corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizePending,
}

func checkStatusUpdate(_ context.Context, c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if c.ResourceVersion == "" {
		faults = append(faults, field.Required(field.NewPath("resourceVersion"), ""))
	}
	if len(c.Spec.AccessModes) == 0 {
		faults = append(faults, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	path := field.NewPath("status")
	for name, size := range c.Status.Capacity {
		faults = append(faults, validate.BasicQuantity(size, path.Child("capacity").Key(string(name)))...)
	}
	at := path.Child("allocatedResourceStatuses")
	for name, state := range c.Status.AllocatedResourceStatuses {
		faults = append(faults, checkResource(name, at)...)
		if !slices.Contains(resizeStates, state) {
			faults = append(faults, field.NotSupported(at, name, resizeStates))
		}
	}
	at = path.Child("allocatedResources")
	for name, size := range c.Status.AllocatedResources {
		if wrong := checkResource(name, at); len(wrong) > 0 {
			faults = append(faults, wrong...)
			continue
		}
		if wrong := validate.BasicQuantity(size, at.Key(string(name))); len(wrong) > 0 {
			faults = append(faults, wrong...)
			continue
		}
		faults = append(faults, validate.ResourceQuantity(corev1.ResourceStorage, size, at.Key(string(name)))...)
	}
	return faults
}

// checkResource requires storage or an extended resource.
func checkResource(name corev1.ResourceName, path *field.Path) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsQualifiedName(string(name)) {
		faults = append(faults, field.Invalid(path, string(name), fault))
	}
	if len(faults) == 0 && validate.IsNativeResource(name) && name != corev1.ResourceStorage {
		faults = append(faults, field.NotSupported(path, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return faults
}
