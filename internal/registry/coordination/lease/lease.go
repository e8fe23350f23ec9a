// Package lease serves coordination.k8s.io/v1 leases.
package lease

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// Kind returns the kind Lease.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*coordinationv1.Lease]{
		GVK:        coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Resource:   "leases",
		Singular:   "lease",
		Namespaced: true,
		New:        func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		NewList:    func() runtime.Object { return &coordinationv1.LeaseList{} },

		Prepare: func(_ context.Context, l *coordinationv1.Lease) { dropDisabled(l) },
		Validate: func(_ context.Context, l *coordinationv1.Lease) field.ErrorList {
			faults := apivalidation.ValidateObjectMeta(&l.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
			return append(faults, checkSpec(&l.Spec, field.NewPath("spec"))...)
		},
		PrepareUpdate: func(_ context.Context, l, _ *coordinationv1.Lease) { dropDisabled(l) },
		ValidateUpdate: func(_ context.Context, l, old *coordinationv1.Lease) field.ErrorList {
			faults := apivalidation.ValidateObjectMetaUpdate(&l.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
			return append(faults, checkSpec(&l.Spec, field.NewPath("spec"))...)
		},
		AllowCreateOnUpdate:     true,
		DenyUnconditionalUpdate: true,
		Table: &kit.Table[*coordinationv1.Lease]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
				column.Age(),
			},
			Row: func(l *coordinationv1.Lease) ([]any, []metav1.TableRowCondition) {
				holder := ""
				if l.Spec.HolderIdentity != nil {
					holder = *l.Spec.HolderIdentity
				}
				return []any{l.Name, holder, column.Since(l.CreationTimestamp)}, nil
			},
		},
	})
}

// dropDisabled clears the fields of coordinated leader election, which is behind a feature gate that is off by
// default (KEP-4355).
func dropDisabled(l *coordinationv1.Lease) {
	l.Spec.Strategy = nil
	l.Spec.PreferredHolder = nil
}

func checkSpec(spec *coordinationv1.LeaseSpec, path *field.Path) (faults field.ErrorList) {
	if n := spec.LeaseDurationSeconds; n != nil && *n <= 0 {
		faults = append(faults, field.Invalid(path.Child("leaseDurationSeconds"), n, "must be greater than 0"))
	}
	if n := spec.LeaseTransitions; n != nil && *n < 0 {
		faults = append(faults, field.Invalid(path.Child("leaseTransitions"), n, "must be greater than or equal to 0"))
	}
	return faults
}
