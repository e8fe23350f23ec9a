// Package persistentvolumeclaim serves core/v1 persistentvolumeclaims.
package persistentvolumeclaim

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

var parts = specstatus.Halves[*corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimSpec, corev1.PersistentVolumeClaimStatus]{
	Spec:   func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaimSpec { return &c.Spec },
	Status: func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaimStatus { return &c.Status },
}

// Kind returns the kind PersistentVolumeClaim.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.PersistentVolumeClaim]{
		GVK:        corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Resource:   "persistentvolumeclaims",
		Singular:   "persistentvolumeclaim",
		ShortNames: []string{"pvc"},
		Namespaced: true,
		New:        func() *corev1.PersistentVolumeClaim { return &corev1.PersistentVolumeClaim{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },

		ReturnDeleted:  true,
		Default:        Default,
		Prepare:        prepare,
		Validate:       check,
		PrepareUpdate:  prepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn: func(_ context.Context, c, _ *corev1.PersistentVolumeClaim) (warnings []string) {
			if _, old := c.Annotations[corev1.BetaStorageClassAnnotation]; old {
				at := field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation)
				warnings = append(warnings, fmt.Sprintf(`%s: deprecated since v1.8; use "storageClassName" attribute instead`, at))
			}
			return append(warnings, WarnSpec(&c.Spec, field.NewPath("spec"))...)
		},
		Status: &kit.SubresourceRules[*corev1.PersistentVolumeClaim]{
			PrepareUpdate: func(ctx context.Context, c, old *corev1.PersistentVolumeClaim) {
				parts.PrepareStatusUpdate(ctx, c, old)
				c.Status.HealthStatus = nil // behind a feature gate that is off by default
			},
			ValidateUpdate: checkStatusUpdate,
		},
		Table: table(),
	})
}

// Default sets the defaults of a claim or of a claim template.
func Default(c *corev1.PersistentVolumeClaim) {
	podspec.DefaultClaimSpec(&c.Spec)
	validate.RoundUp(c.Status.Capacity)
	validate.RoundUp(c.Status.AllocatedResources)
	if c.Status.Phase == "" {
		c.Status.Phase = corev1.ClaimPending
	}
}

func prepare(ctx context.Context, c *corev1.PersistentVolumeClaim) {
	parts.Prepare(ctx, c)
	settleSources(&c.Spec, nil)
	c.Status.Phase = corev1.ClaimPending
}

func prepareUpdate(ctx context.Context, c, old *corev1.PersistentVolumeClaim) {
	parts.PrepareUpdate(ctx, c, old)
	settleSources(&c.Spec, &old.Spec)
	pairSources(&old.Spec)
}

// settleSources drops data sources that are not allowed, and makes the old and the new field agree.
func settleSources(s, old *corev1.PersistentVolumeClaimSpec) {
	// A source in another namespace is behind a feature gate that is off by default.
	if ref := s.DataSourceRef; ref != nil && ref.Namespace != nil && *ref.Namespace != "" && (old == nil || old.DataSourceRef == nil) {
		s.DataSourceRef = nil
	}
	had := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if !had && s.DataSourceRef == nil && !claimOrSnapshot(s.DataSource) {
		s.DataSource = nil
	}
	pairSources(s)
}

func claimOrSnapshot(source *corev1.TypedLocalObjectReference) bool {
	if source == nil {
		return false
	}
	group := ""
	if source.APIGroup != nil {
		group = *source.APIGroup
	}
	return group == "" && source.Kind == "PersistentVolumeClaim" ||
		group == "snapshot.storage.k8s.io" && source.Kind == "VolumeSnapshot"
}

func pairSources(s *corev1.PersistentVolumeClaimSpec) {
	switch source, ref := s.DataSource, s.DataSourceRef; {
	case source != nil && ref == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: source.APIGroup, Kind: source.Kind, Name: source.Name}
	case ref != nil && source == nil && (ref.Namespace == nil || *ref.Namespace == ""):
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

// WarnSpec returns warnings if a claim at path requests fractions of a byte.
func WarnSpec(s *corev1.PersistentVolumeClaimSpec, path *field.Path) (warnings []string) {
	warn := func(part string, size resource.Quantity) {
		if size.MilliValue()%1000 != 0 {
			at := path.Child("resources", part).Key(string(corev1.ResourceStorage))
			warnings = append(warnings, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", at, size.String()))
		}
	}
	warn("requests", s.Resources.Requests[corev1.ResourceStorage])
	warn("limits", s.Resources.Limits[corev1.ResourceStorage])
	return warnings
}

func table() *kit.Table[*corev1.PersistentVolumeClaim] {
	wanted, there := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return &kit.Table[*corev1.PersistentVolumeClaim]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Status", there["phase"]),
			column.Text("Volume", wanted["volumeName"]),
			column.Text("Capacity", there["capacity"]),
			column.Text("Access Modes", there["accessModes"]),
			column.Text("StorageClass", "StorageClass of the pvc"),
			column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
			column.Age(),
			column.Wide(column.Text("VolumeMode", wanted["volumeMode"])),
		},
		Row: row,
	}
}

func row(c *corev1.PersistentVolumeClaim) ([]any, []metav1.TableRowCondition) {
	phase, capacity, modes := string(c.Status.Phase), "", ""
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	if c.Spec.VolumeName != "" {
		modes = column.AccessModes(c.Status.AccessModes)
		size := c.Status.Capacity[corev1.ResourceStorage]
		capacity = size.String()
	}
	class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !ok && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, column.OrUnset(c.Spec.VolumeAttributesClassName),
		column.Since(c.CreationTimestamp), column.OrUnset(c.Spec.VolumeMode),
	}, nil
}
