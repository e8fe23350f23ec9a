// Package csidriver serves storage.k8s.io/v1 csidrivers.
package csidriver

import (
	"context"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind CSIDriver.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*storagev1.CSIDriver]{
		GVK:      storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Resource: "csidrivers",
		Singular: "csidriver",
		New:      func() *storagev1.CSIDriver { return &storagev1.CSIDriver{} },
		NewList:  func() runtime.Object { return &storagev1.CSIDriverList{} },

		ReturnDeleted:           true,
		Default:                 setDefaults,
		Validate:                check,
		PrepareUpdate:           func(_ context.Context, d, old *storagev1.CSIDriver) { specstatus.Count(d, old, d.Spec, old.Spec) },
		ValidateUpdate:          checkUpdate,
		Warn:                    warn,
		DenyUnconditionalUpdate: true,
		Table:                   table(),
	})
}

func setDefaults(d *storagev1.CSIDriver) {
	s := &d.Spec
	for _, f := range []struct {
		field **bool
		value bool
	}{
		{&s.AttachRequired, true},
		{&s.PodInfoOnMount, false},
		{&s.StorageCapacity, false},
		{&s.RequiresRepublish, false},
		{&s.SELinuxMount, false},
		{&s.PreventPodSchedulingIfMissing, false},
	} {
		if *f.field == nil {
			*f.field = new(f.value)
		}
	}
	if s.FSGroupPolicy == nil {
		s.FSGroupPolicy = new(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

// The bounds of a token's lifetime, and the shortest period between updates of a node's volume limit, in
// seconds.
const (
	minTokenSeconds  = 10 * 60
	maxTokenSeconds  = 1 << 32
	minUpdateSeconds = 10
)

func check(_ context.Context, d *storagev1.CSIDriver) field.ErrorList {
	return append(validate.Meta(&d.ObjectMeta, false, apivalidation.NameIsDNSSubdomain), checkSpec(&d.Spec, field.NewPath("spec"))...)
}

func checkSpec(s *storagev1.CSIDriverSpec, path *field.Path) (faults field.ErrorList) {
	if p := s.FSGroupPolicy; p != nil {
		switch *p {
		case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy:
		default:
			faults = append(faults, field.NotSupported(path.Child("fsGroupPolicy"), p, []string{
				string(storagev1.FileFSGroupPolicy), string(storagev1.NoneFSGroupPolicy), string(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)}))
		}
	}
	faults = append(faults, checkTokens(s.TokenRequests, path.Child("tokenRequests"))...)
	for _, mode := range s.VolumeLifecycleModes {
		if mode != storagev1.VolumeLifecyclePersistent && mode != storagev1.VolumeLifecycleEphemeral {
			faults = append(faults, field.NotSupported(path.Child("volumeLifecycleModes"), mode, []string{
				string(storagev1.VolumeLifecyclePersistent), string(storagev1.VolumeLifecycleEphemeral)}))
		}
	}
	if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < minUpdateSeconds {
		faults = append(faults, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		faults = append(faults, field.Invalid(path.Child("serviceAccountTokenInSecrets"), s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return faults
}

func checkTokens(requests []storagev1.TokenRequest, path *field.Path) (faults field.ErrorList) {
	seen := sets.New[string]()
	for i, r := range requests {
		at := path.Index(i)
		if seen.Has(r.Audience) {
			faults = append(faults, field.Duplicate(at.Child("audience"), r.Audience))
			continue
		}
		seen.Insert(r.Audience)
		if r.ExpirationSeconds == nil {
			continue
		}
		if *r.ExpirationSeconds < minTokenSeconds {
			faults = append(faults, field.Invalid(at.Child("expirationSeconds"), *r.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
		}
		if *r.ExpirationSeconds > maxTokenSeconds {
			faults = append(faults, field.Invalid(at.Child("expirationSeconds"), *r.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return faults
}

func checkUpdate(_ context.Context, d, old *storagev1.CSIDriver) field.ErrorList {
	path := field.NewPath("spec")
	faults := validate.MetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkSpec(&d.Spec, path)...)
	faults = append(faults, validate.Immutable(d.Spec.AttachRequired, old.Spec.AttachRequired, path.Child("attachedRequired"))...)
	return append(faults, validate.Immutable(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
}

func warn(_ context.Context, d, old *storagev1.CSIDriver) []string {
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil ||
		old != nil && apiequality.Semantic.DeepEqual(d.Spec.TokenRequests, old.Spec.TokenRequests) {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}

func table() *kit.Table[*storagev1.CSIDriver] {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	return &kit.Table[*storagev1.CSIDriver]{
		Columns: []column.Definition{
			column.Name(),
			column.Boolean("AttachRequired", doc["attachRequired"]),
			column.Boolean("PodInfoOnMount", doc["podInfoOnMount"]),
			column.Boolean("StorageCapacity", doc["storageCapacity"]),
			column.Text("TokenRequests", doc["tokenRequests"]),
			column.Boolean("RequiresRepublish", doc["requiresRepublish"]),
			column.Text("Modes", doc["volumeLifecycleModes"]),
			column.Age(),
		},
		Row: func(d *storagev1.CSIDriver) ([]any, []metav1.TableRowCondition) {
			s, tokens := &d.Spec, column.Unset
			if s.TokenRequests != nil {
				tokens = join(s.TokenRequests, func(r storagev1.TokenRequest) string { return r.Audience })
			}
			modes := join(s.VolumeLifecycleModes, func(m storagev1.VolumeLifecycleMode) string { return string(m) })
			return []any{
				d.Name, or(s.AttachRequired, true), or(s.PodInfoOnMount, false), or(s.StorageCapacity, false), tokens,
				or(s.RequiresRepublish, false), column.OrNone(modes), column.Since(d.CreationTimestamp),
			}, nil
		},
	}
}

func or(value *bool, otherwise bool) bool {
	if value == nil {
		return otherwise
	}
	return *value
}

func join[T any](list []T, word func(T) string) string {
	words := make([]string, len(list))
	for i, item := range list {
		words[i] = word(item)
	}
	return strings.Join(words, ",")
}
