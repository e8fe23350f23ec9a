// Package persistentvolume serves core/v1 persistentvolumes.
package persistentvolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

var parts = specstatus.Halves[*corev1.PersistentVolume, corev1.PersistentVolumeSpec, corev1.PersistentVolumeStatus]{
	Spec:   func(v *corev1.PersistentVolume) *corev1.PersistentVolumeSpec { return &v.Spec },
	Status: func(v *corev1.PersistentVolume) *corev1.PersistentVolumeStatus { return &v.Status },
}

// Kind returns the kind PersistentVolume.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.PersistentVolume]{
		GVK:        corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Resource:   "persistentvolumes",
		Singular:   "persistentvolume",
		ShortNames: []string{"pv"},
		New:        func() *corev1.PersistentVolume { return &corev1.PersistentVolume{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeList{} },

		ReturnDeleted: true,
		Default:       setDefaults,
		Prepare: func(_ context.Context, v *corev1.PersistentVolume) {
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: new(metav1.Now())}
		},
		Validate:       check,
		PrepareUpdate:  parts.PrepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*corev1.PersistentVolume]{
			PrepareUpdate: prepareStatusUpdate,
			ValidateUpdate: func(_ context.Context, v, old *corev1.PersistentVolume) field.ErrorList {
				faults := validate.MetaUpdate(&v.ObjectMeta, &old.ObjectMeta)
				if v.ResourceVersion == "" {
					faults = append(faults, field.Required(field.NewPath("resourceVersion"), ""))
				}
				return faults
			},
		},
		Table: table(),
	})
}

func setDefaults(v *corev1.PersistentVolume) {
	validate.RoundUp(v.Spec.Capacity)
	if v.Status.Phase == "" {
		v.Status.Phase = corev1.VolumePending
	}
	if v.Spec.PersistentVolumeReclaimPolicy == "" {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if v.Spec.VolumeMode == nil {
		v.Spec.VolumeMode = new(corev1.PersistentVolumeFilesystem)
	}
	if h := v.Spec.HostPath; h != nil && h.Type == nil {
		h.Type = new(corev1.HostPathUnset)
	}
}

// prepareStatusUpdate sets the time of a phase change if the client does not.
func prepareStatusUpdate(ctx context.Context, v, old *corev1.PersistentVolume) {
	parts.PrepareStatusUpdate(ctx, v, old)
	now, before := v.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime
	switch moved := v.Status.Phase != old.Status.Phase; {
	case !moved && now == nil:
		v.Status.LastPhaseTransitionTime = before
	case moved && (now == nil || now.Equal(before)):
		v.Status.LastPhaseTransitionTime = new(metav1.Now())
	}
}

func warn(_ context.Context, v, _ *corev1.PersistentVolume) (warnings []string) {
	say := func(path *field.Path, what string) { warnings = append(warnings, fmt.Sprintf("%s: %s", path, what)) }
	annotations, spec := field.NewPath("metadata", "annotations"), field.NewPath("spec")
	if _, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		say(annotations.Key(corev1.BetaStorageClassAnnotation), `deprecated since v1.8; use "storageClassName" attribute instead`)
	}
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; ok {
		say(annotations.Key(corev1.MountOptionAnnotation), `deprecated since v1.31; use "mountOptions" attribute instead`)
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		say(spec.Child("persistentVolumeReclaimPolicy"), "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		at := spec.Child("nodeAffinity", "required", "nodeSelectorTerms")
		for i, term := range a.Required.NodeSelectorTerms {
			for j, e := range term.MatchExpressions {
				if what, old := validate.OldNodeLabel(e.Key); old {
					say(at.Index(i).Child("matchExpressions").Index(j).Child("key"), fmt.Sprintf("%s is %s", e.Key, what))
				}
			}
		}
	}
	for _, p := range []struct {
		used       bool
		name, what string
	}{
		{v.Spec.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{v.Spec.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{v.Spec.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{v.Spec.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Spec.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{v.Spec.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if p.used {
			say(spec.Child(p.name), p.what)
		}
	}
	return warnings
}

func table() *kit.Table[*corev1.PersistentVolume] {
	wanted, there := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return &kit.Table[*corev1.PersistentVolume]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Capacity", wanted["capacity"]),
			column.Text("Access Modes", wanted["accessModes"]),
			column.Text("Reclaim Policy", wanted["persistentVolumeReclaimPolicy"]),
			column.Text("Status", there["phase"]),
			column.Text("Claim", wanted["claimRef"]),
			column.Text("StorageClass", "StorageClass of the pv"),
			column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
			column.Text("Reason", there["reason"]),
			column.Age(),
			column.Wide(column.Text("VolumeMode", wanted["volumeMode"])),
		},
		Row: row,
	}
}

func row(v *corev1.PersistentVolume) ([]any, []metav1.TableRowCondition) {
	claim, phase := "", string(v.Status.Phase)
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	if v.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]
	if !ok {
		class = v.Spec.StorageClassName
	}
	size := v.Spec.Capacity[corev1.ResourceStorage]
	return []any{
		v.Name, size.String(), column.AccessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		class, column.OrUnset(v.Spec.VolumeAttributesClassName), v.Status.Reason, column.Since(v.CreationTimestamp), column.OrUnset(v.Spec.VolumeMode),
	}, nil
}
