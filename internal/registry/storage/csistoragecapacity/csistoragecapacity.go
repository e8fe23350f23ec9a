// Package csistoragecapacity serves storage.k8s.io/v1 csistoragecapacities: the capacity that a CSI driver
// reports for volumes of a class on some nodes.
package csistoragecapacity

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind CSIStorageCapacity.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*storagev1.CSIStorageCapacity]{
		GVK:        storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Resource:   "csistoragecapacities",
		Singular:   "csistoragecapacity",
		Namespaced: true,
		New:        func() *storagev1.CSIStorageCapacity { return &storagev1.CSIStorageCapacity{} },
		NewList:    func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },

		Validate: func(_ context.Context, c *storagev1.CSIStorageCapacity) field.ErrorList { return check(c, false) },
		ValidateUpdate: func(_ context.Context, c, old *storagev1.CSIStorageCapacity) field.ErrorList {
			// A selector that older rules accepted may stay.
			return append(check(c, len(checkTopology(old, false)) > 0), checkUpdate(c, old)...)
		},
		Warn:                    warn,
		DenyUnconditionalUpdate: true,
	})
}

func check(c *storagev1.CSIStorageCapacity, oldSelector bool) field.ErrorList {
	faults := validate.Meta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, checkTopology(c, oldSelector)...)
	class := field.NewPath("storageClassName")
	for _, fault := range apivalidation.NameIsDNSSubdomain(c.StorageClassName, false) {
		faults = append(faults, field.Invalid(class, c.StorageClassName, fault))
	}
	if c.Capacity != nil && c.Capacity.Sign() < 0 {
		faults = append(faults, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), apivalidation.IsNegativeErrorMsg))
	}
	return faults
}

func checkTopology(c *storagev1.CSIStorageCapacity, oldSelector bool) field.ErrorList {
	options := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: oldSelector}
	return metav1validation.ValidateLabelSelector(c.NodeTopology, options, field.NewPath("nodeTopology"))
}

// checkUpdate requires that the parameters of the driver's query stay unchanged.
func checkUpdate(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
	return validate.InOrder(
		validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta),
		validate.Immutable(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology")),
		validate.Immutable(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName")),
	)
}

// warn warns about deprecated node labels.
func warn(_ context.Context, c, _ *storagev1.CSIStorageCapacity) (warnings []string) {
	if c.NodeTopology == nil {
		return nil
	}
	path := field.NewPath("nodeTopology")
	for i, e := range c.NodeTopology.MatchExpressions {
		if what, old := validate.OldNodeLabel(e.Key); old {
			warnings = append(warnings, fmt.Sprintf("%s: %s is %s", path.Child("matchExpressions").Index(i).Child("key"), e.Key, what))
		}
	}
	for name := range c.NodeTopology.MatchLabels {
		if what, old := validate.OldNodeLabel(name); old {
			warnings = append(warnings, fmt.Sprintf("%s: %s", path.Child("matchLabels").Child(name), what))
		}
	}
	return warnings
}
