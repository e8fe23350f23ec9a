// Package csinode serves storage.k8s.io/v1 csinodes: the CSI drivers of a node.
package csinode

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind CSINode.
func Kind() kit.Kind {
	// The status, about the health of volumes, is behind a feature gate that is off by default.
	noStatus := func(_ context.Context, n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} }
	return kit.Define(kit.Definition[*storagev1.CSINode]{
		GVK:      storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Resource: "csinodes",
		Singular: "csinode",
		New:      func() *storagev1.CSINode { return &storagev1.CSINode{} },
		NewList:  func() runtime.Object { return &storagev1.CSINodeList{} },

		ReturnDeleted:           true,
		Prepare:                 noStatus,
		Validate:                check,
		PrepareUpdate:           func(ctx context.Context, n, _ *storagev1.CSINode) { noStatus(ctx, n) },
		ValidateUpdate:          checkUpdate,
		DenyUnconditionalUpdate: true,
		Status: &kit.SubresourceRules[*storagev1.CSINode]{
			PrepareUpdate: func(ctx context.Context, n, old *storagev1.CSINode) {
				n.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&n.ObjectMeta, &old.ObjectMeta)
				noStatus(ctx, n)
			},
			ValidateUpdate: func(_ context.Context, n, old *storagev1.CSINode) field.ErrorList {
				return validate.MetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
			},
			ResetFields: [][]string{{"metadata"}, {"spec"}},
		},
		Table: &kit.Table[*storagev1.CSINode]{
			Columns: []column.Definition{
				column.Name(),
				column.Integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
				column.Age(),
			},
			Row: func(n *storagev1.CSINode) ([]any, []metav1.TableRowCondition) {
				return []any{n.Name, int64(len(n.Spec.Drivers)), column.Since(n.CreationTimestamp)}, nil
			},
		},
	})
}

// maxNodeID is the maximum length of a driver's name for the node.
const maxNodeID = 256

var drivers = field.NewPath("spec", "drivers")

func check(_ context.Context, n *storagev1.CSINode) field.ErrorList {
	faults := validate.Meta(&n.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	seen := sets.New[string]()
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], drivers.Index(i)
		faults = append(faults, validate.CSIDriver(d.Name, at.Child("name"))...)
		if d.NodeID == "" {
			faults = append(faults, field.Required(at.Child("nodeID"), ""))
		}
		if len(d.NodeID) > maxNodeID {
			faults = append(faults, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
		}
		if a := d.Allocatable; a != nil && a.Count != nil {
			faults = append(faults, validate.NonNegative(*a.Count, at.Child("allocatable", "count"))...)
		}
		if seen.Has(d.Name) {
			faults = append(faults, field.Duplicate(at.Child("name"), d.Name))
		}
		seen.Insert(d.Name)
		faults = append(faults, checkTopology(d.TopologyKeys, at)...)
	}
	return faults
}

func checkTopology(keys []string, path *field.Path) (faults field.ErrorList) {
	seen := sets.New[string]()
	for _, key := range keys {
		if key == "" {
			faults = append(faults, field.Required(path, key))
		}
		if seen.Has(key) {
			faults = append(faults, field.Duplicate(path, key))
		}
		seen.Insert(key)
		faults = append(faults, validate.QualifiedName(key, path)...)
	}
	return faults
}

// checkUpdate allows drivers to be added and removed. A driver that stays may only change its volume limit.
func checkUpdate(ctx context.Context, n, old *storagev1.CSINode) field.ErrorList {
	faults := check(ctx, n)
	for i := range old.Spec.Drivers {
		for j := range n.Spec.Drivers {
			before, now := old.Spec.Drivers[i].DeepCopy(), n.Spec.Drivers[j].DeepCopy()
			if before.Name != now.Name {
				continue
			}
			before.Allocatable, now.Allocatable = nil, nil
			faults = append(faults, validate.Immutable(now, before, drivers)...)
		}
	}
	return faults
}
