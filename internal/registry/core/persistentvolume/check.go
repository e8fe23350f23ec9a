package persistentvolume

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

// The valid values of some fields, in the order in which messages list them.
var (
	accessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	policies    = []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain}
	volumeModes = []corev1.PersistentVolumeMode{corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem}
)

func check(_ context.Context, v *corev1.PersistentVolume) field.ErrorList {
	faults := validate.Meta(&v.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, checkSpec(&v.Spec, field.NewPath("spec"))...)
	return append(faults, checkMountOptions(v)...)
}

func checkSpec(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	faults := checkAccessModes(s.AccessModes, at.Child("accessModes"))
	faults = append(faults, checkCapacity(s.Capacity, at.Child("capacity"))...)
	policy := s.PersistentVolumeReclaimPolicy
	if policy != "" && !slices.Contains(policies, policy) {
		faults = append(faults, field.NotSupported(at.Child("persistentVolumeReclaimPolicy"), policy, policies))
	}
	if a := s.NodeAffinity; a != nil && a.Required == nil {
		faults = append(faults, field.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints"))
	} else if a != nil {
		faults = append(faults, podspec.CheckNodeSelector(a.Required, at.Child("nodeAffinity", "required"))...)
	}
	faults = append(faults, checkSource(s, at)...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && policy == corev1.PersistentVolumeReclaimRecycle {
		faults = append(faults, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		faults = append(faults, validate.Subdomain(s.StorageClassName, at.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil && !slices.Contains(volumeModes, *s.VolumeMode) {
		faults = append(faults, field.NotSupported(at.Child("volumeMode"), *s.VolumeMode, volumeModes))
	}
	if class := s.VolumeAttributesClassName; class != nil {
		if *class == "" {
			faults = append(faults, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		} else {
			faults = append(faults, validate.Subdomain(*class, at.Child("volumeAttributesClassName"))...)
		}
		if s.CSI == nil {
			faults = append(faults, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return faults
}

func checkAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) (faults field.ErrorList) {
	if len(modes) == 0 {
		faults = append(faults, field.Required(at, ""))
	}
	alone, others := false, false
	for _, mode := range modes {
		known := slices.Contains(accessModes, mode)
		if !known {
			faults = append(faults, field.NotSupported(at, mode, accessModes))
		}
		alone = alone || mode == corev1.ReadWriteOncePod
		others = others || known && mode != corev1.ReadWriteOncePod
	}
	if alone && others {
		faults = append(faults, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return faults
}

func checkCapacity(capacity corev1.ResourceList, at *field.Path) (faults field.ErrorList) {
	if len(capacity) == 0 {
		faults = append(faults, field.Required(at, ""))
	}
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		faults = append(faults, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, size := range capacity {
		faults = append(faults, validate.BasicQuantity(size, at.Key(string(name)))...)
		if size.Sign() <= 0 {
			faults = append(faults, field.Invalid(at.Key(string(name)), size.String(), "must be greater than zero"))
		}
	}
	return faults
}

// checkSource requires exactly one source. Sources without a particular cloud or storage product behind them
// are validated in detail.
func checkSource(s *corev1.PersistentVolumeSpec, at *field.Path) (faults field.ErrorList) {
	sources := reflect.ValueOf(&s.PersistentVolumeSource).Elem()
	found := 0
	for i := range sources.NumField() {
		if sources.Field(i).IsNil() {
			continue
		}
		name, _, _ := strings.Cut(sources.Type().Field(i).Tag.Get("json"), ",")
		if found++; found > 1 {
			faults = append(faults, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
			continue
		}
		faults = append(faults, checkOneSource(s, at.Child(name), at)...)
	}
	if found == 0 {
		faults = append(faults, field.Required(at, "must specify a volume type"))
	}
	return faults
}

func checkOneSource(s *corev1.PersistentVolumeSpec, at, parent *field.Path) (faults field.ErrorList) {
	switch {
	case s.HostPath != nil:
		return checkHostPath(s.HostPath, at)
	case s.NFS != nil:
		if s.NFS.Server == "" {
			faults = append(faults, field.Required(at.Child("server"), ""))
		}
		if s.NFS.Path == "" {
			faults = append(faults, field.Required(at.Child("path"), ""))
		}
		if !path.IsAbs(s.NFS.Path) {
			faults = append(faults, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
		}
	case s.Local != nil:
		faults = append(faults, checkPath(s.Local.Path, at.Child("path"))...)
		if s.NodeAffinity == nil {
			faults = append(faults, field.Required(parent.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
	case s.CSI != nil:
		return checkCSI(s.CSI, at)
	}
	return faults
}

func checkPath(target string, at *field.Path) field.ErrorList {
	if target == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if slices.Contains(strings.Split(target, "/"), "..") {
		return field.ErrorList{field.Invalid(at, target, "must not contain '..'")}
	}
	return nil
}

var hostPathTypes = []corev1.HostPathType{
	corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate,
	corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket,
}

func checkHostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	faults := checkPath(h.Path, at.Child("path"))
	if h.Path != "" && h.Type != nil && !slices.Contains(hostPathTypes, *h.Type) {
		faults = append(faults, field.NotSupported(at.Child("type"), h.Type, hostPathTypes))
	}
	return faults
}

func checkCSI(c *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	faults := validate.CSIDriver(c.Driver, at.Child("driver"))
	if c.VolumeHandle == "" {
		faults = append(faults, field.Required(at.Child("volumeHandle"), ""))
	}
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef},
		{"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef},
		{"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if r.ref != nil {
			faults = append(faults, checkSecret(r.ref, at.Child(r.name))...)
		}
	}
	return faults
}

func checkSecret(ref *corev1.SecretReference, at *field.Path) (faults field.ErrorList) {
	if ref.Name == "" {
		faults = append(faults, field.Required(at.Child("name"), ""))
	} else {
		faults = append(faults, validate.Subdomain(ref.Name, at.Child("name"))...)
	}
	if ref.Namespace == "" {
		return append(faults, field.Required(at.Child("namespace"), ""))
	}
	return append(faults, validate.Label(ref.Namespace, at.Child("namespace"))...)
}

// checkMountOptions rejects the old annotation for sources that do not support mount options.
func checkMountOptions(v *corev1.PersistentVolume) field.ErrorList {
	s := &v.Spec
	if s.NFS != nil || s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.RBD != nil ||
		s.Quobyte != nil || s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil ||
		s.AzureDisk != nil || s.PhotonPersistentDisk != nil {
		return nil
	}
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; !ok {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata").Child("annotations", corev1.MountOptionAnnotation), "may not specify mount options for this volume type")}
}

func checkUpdate(ctx context.Context, v, old *corev1.PersistentVolume) field.ErrorList {
	faults := check(ctx, v)
	now := v.Spec.PersistentVolumeSource.DeepCopy()
	if before := old.Spec.CSI; before != nil && before.ControllerExpandSecretRef == nil && now.CSI != nil {
		now.CSI.ControllerExpandSecretRef = nil // may be set later
	}
	if before := old.Spec.PersistentVolumeSource; !apiequality.Semantic.DeepEqual(*now, before) {
		faults = append(faults, field.Forbidden(field.NewPath("spec", "persistentvolumesource"), fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(validate.Shown(before), validate.Shown(now)))))
	}
	faults = append(faults, validate.Immutable(v.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !apiequality.Semantic.DeepEqual(renewed(v.Spec.NodeAffinity), renewed(old.Spec.NodeAffinity)) {
		faults = append(faults, field.Invalid(field.NewPath("nodeAffinity"), validate.Shown(v.Spec.NodeAffinity), apivalidation.FieldImmutableErrorMsg+", except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		faults = append(faults, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return faults
}

// newLabels maps deprecated node labels to their present names.
var newLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os":             corev1.LabelOSStable,
	"beta.kubernetes.io/arch":           corev1.LabelArchStable,
	corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
}

// renewed returns the affinity with node labels under their present names.
func renewed(a *corev1.VolumeNodeAffinity) *corev1.VolumeNodeAffinity {
	a = a.DeepCopy()
	if a == nil || a.Required == nil {
		return a
	}
	for _, term := range a.Required.NodeSelectorTerms {
		for i, e := range term.MatchExpressions {
			if label, ok := newLabels[e.Key]; ok {
				term.MatchExpressions[i].Key = label
			}
		}
	}
	return a
}
