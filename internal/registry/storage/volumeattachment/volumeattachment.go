// Package volumeattachment serves storage.k8s.io/v1 volumeattachments.
package volumeattachment

import (
	"context"
	"math"
	"unicode/utf8"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

var parts = specstatus.Halves[*storagev1.VolumeAttachment, storagev1.VolumeAttachmentSpec, storagev1.VolumeAttachmentStatus]{
	Spec:   func(a *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentSpec { return &a.Spec },
	Status: func(a *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentStatus { return &a.Status },
}

// Kind returns the kind VolumeAttachment.
func Kind() kit.Kind {
	wanted, there := storagev1.VolumeAttachmentSpec{}.SwaggerDoc(), storagev1.VolumeAttachmentStatus{}.SwaggerDoc()
	attacher := column.Text("Attacher", wanted["attacher"])
	attacher.Format = "name"
	return kit.Define(kit.Definition[*storagev1.VolumeAttachment]{
		GVK:      storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Resource: "volumeattachments",
		Singular: "volumeattachment",
		New:      func() *storagev1.VolumeAttachment { return &storagev1.VolumeAttachment{} },
		NewList:  func() runtime.Object { return &storagev1.VolumeAttachmentList{} },

		ReturnDeleted:           true,
		Prepare:                 parts.Prepare,
		Validate:                check,
		PrepareUpdate:           parts.PrepareUpdate,
		ValidateUpdate:          checkUpdate,
		DenyUnconditionalUpdate: true,
		Status: &kit.SubresourceRules[*storagev1.VolumeAttachment]{
			PrepareUpdate: func(ctx context.Context, a, old *storagev1.VolumeAttachment) {
				parts.PrepareStatusUpdate(ctx, a, old)
				metav1.ResetObjectMetaForStatus(&a.ObjectMeta, &old.ObjectMeta)
			},
			ValidateUpdate: checkUpdate,
			ResetFields:    [][]string{{"metadata"}, {"spec"}},
		},
		Table: &kit.Table[*storagev1.VolumeAttachment]{
			Columns: []column.Definition{
				column.Name(),
				attacher,
				column.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
				column.Text("Node", wanted["nodeName"]),
				column.Boolean("Attached", there["attached"]),
				column.Age(),
			},
			Row: func(a *storagev1.VolumeAttachment) ([]any, []metav1.TableRowCondition) {
				volume := ""
				if name := a.Spec.Source.PersistentVolumeName; name != nil {
					volume = *name
				}
				return []any{a.Name, a.Spec.Attacher, volume, a.Spec.NodeName, a.Status.Attached, column.Since(a.CreationTimestamp)}, nil
			},
		},
	})
}

// The maximum sizes of attachment metadata and errors in bytes, and the maximum length of a driver's name.
const (
	maxAttacher = 63
	maxMetadata = 256 << 10
	maxMessage  = 1024
)

func check(_ context.Context, a *storagev1.VolumeAttachment) field.ErrorList {
	return checkAll(a, checkAttacher(a.Spec.Attacher, field.NewPath("spec", "attacher")))
}

// checkAll validates an attachment. attacher are the errors of the attacher's name.
func checkAll(a *storagev1.VolumeAttachment, attacher field.ErrorList) field.ErrorList {
	spec, status := field.NewPath("spec"), field.NewPath("status")
	faults := validate.Meta(&a.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, attacher...)
	faults = append(faults, checkSource(&a.Spec.Source, spec.Child("source"))...)
	faults = append(faults, validate.Subdomain(a.Spec.NodeName, spec.Child("nodeName"))...)
	size := 0
	for name, value := range a.Status.AttachmentMetadata {
		size += len(name) + len(value)
	}
	if size > maxMetadata {
		faults = append(faults, field.TooLong(status.Child("attachmentMetadata"), "", maxMetadata))
	}
	faults = append(faults, checkError(a.Status.AttachError, status.Child("attachError"))...)
	faults = append(faults, checkError(a.Status.DetachError, status.Child("detachError"))...)
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		faults = append(faults, validate.Subdomain(*name, field.NewPath("spec.source.persistentVolumeName"))...)
	}
	return validate.InOrder(faults)
}

func checkAttacher(name string, path *field.Path) (faults field.ErrorList) {
	if name == "" {
		return field.ErrorList{validate.Missing(path)}
	}
	for _, fault := range content.IsDNS1123SubdomainCaseless(name) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	if utf8.RuneCountInString(name) > maxAttacher {
		faults = append(faults, field.TooLongCharacters(path, name, maxAttacher))
	}
	return validate.Declared(faults...)
}

// checkSource requires the name of a volume, or an inline volume of a CSI driver.
func checkSource(s *storagev1.VolumeAttachmentSource, path *field.Path) field.ErrorList {
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch name, inline := s.PersistentVolumeName, s.InlineVolumeSpec; {
	case name == nil && inline == nil:
		return field.ErrorList{field.Required(path, one)}
	case name != nil && inline != nil:
		return field.ErrorList{field.Forbidden(path, one)}
	case name != nil && *name == "":
		return field.ErrorList{field.Required(path.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")}
	case inline != nil && inline.CSI == nil:
		return field.ErrorList{field.Required(path.Child("inlineVolumeSpec", "csi"), "has to be specified in the context of inline volumes")}
	}
	return nil
}

func checkError(e *storagev1.VolumeError, path *field.Path) (faults field.ErrorList) {
	if e == nil {
		return nil
	}
	if len(e.Message) > maxMessage {
		faults = append(faults, field.TooLong(path.Child("message"), "", maxMessage))
	}
	if e.ErrorCode != nil && *e.ErrorCode < 0 {
		faults = append(faults, field.Invalid(path.Child("errorCode"), *e.ErrorCode, utilvalidation.InclusiveRangeError(0, math.MaxInt32)))
	}
	return faults
}

func checkUpdate(ctx context.Context, a, old *storagev1.VolumeAttachment) field.ErrorList {
	path := field.NewPath("spec")
	changed := validate.Same(a.Spec, old.Spec, path)
	if len(changed) == 0 {
		return check(ctx, a)
	}
	return append(checkAll(a, validate.CSIDriver(a.Spec.Attacher, path.Child("attacher"))), changed...)
}
