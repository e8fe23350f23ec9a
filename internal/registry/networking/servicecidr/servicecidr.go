// Package servicecidr serves networking.k8s.io/v1 servicecidrs.
package servicecidr

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind ServiceCIDR.
func Kind() kit.Kind {
	h := specstatus.Halves[*networkingv1.ServiceCIDR, networkingv1.ServiceCIDRSpec, networkingv1.ServiceCIDRStatus]{
		Spec:   func(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRSpec { return &c.Spec },
		Status: func(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRStatus { return &c.Status },
	}
	return kit.Define(kit.Definition[*networkingv1.ServiceCIDR]{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Resource: "servicecidrs",
		Singular: "servicecidr",
		New:      func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		NewList:  func() runtime.Object { return &networkingv1.ServiceCIDRList{} },

		Prepare: h.Prepare,
		Validate: func(_ context.Context, c *networkingv1.ServiceCIDR) field.ErrorList {
			return append(validate.Meta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain), checkSpec(&c.Spec)...)
		},
		PrepareUpdate:  h.PrepareUpdate,
		ValidateUpdate: checkUpdate,
		Status: &kit.SubresourceRules[*networkingv1.ServiceCIDR]{
			PrepareUpdate: func(ctx context.Context, c, old *networkingv1.ServiceCIDR) {
				metav1.ResetObjectMetaForStatus(&c.ObjectMeta, &old.ObjectMeta)
				h.PrepareStatusUpdate(ctx, c, old)
			},
			ValidateUpdate: func(_ context.Context, c, old *networkingv1.ServiceCIDR) field.ErrorList {
				return validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
			},
		},
		Table: &kit.Table[*networkingv1.ServiceCIDR]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]),
				column.Age(),
			},
			Row: func(c *networkingv1.ServiceCIDR) ([]any, []metav1.TableRowCondition) {
				return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), column.Since(c.CreationTimestamp)}, nil
			},
		},
	})
}

var cidrs = field.NewPath("spec", "cidrs")

func checkSpec(s *networkingv1.ServiceCIDRSpec) (faults field.ErrorList) {
	switch {
	case len(s.CIDRs) == 0:
		return field.ErrorList{field.Required(cidrs, "at least one CIDR required")}
	case len(s.CIDRs) > 2:
		return field.ErrorList{field.Invalid(cidrs, validate.Shown(s), "may only hold up to 2 values")}
	}
	for i, cidr := range s.CIDRs {
		faults = append(faults, utilvalidation.IsValidCIDR(cidrs.Index(i), cidr)...)
	}
	if len(s.CIDRs) == 2 {
		first, second := netutils.IPFamilyOfCIDRString(s.CIDRs[0]), netutils.IPFamilyOfCIDRString(s.CIDRs[1])
		if first == second && first != netutils.IPFamilyUnknown {
			faults = append(faults, field.Invalid(cidrs, s.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		}
	}
	return faults
}

// checkUpdate allows a range of the other family to be added, and no other change.
func checkUpdate(_ context.Context, c, old *networkingv1.ServiceCIDR) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	now, before := c.Spec.CIDRs, old.Spec.CIDRs
	added := len(before) == 1 && len(now) == 2
	if len(now) != len(before) && !added {
		return append(faults, field.Invalid(cidrs, now, apivalidation.FieldImmutableErrorMsg))
	}
	for i := range before {
		if now[i] != before[i] {
			faults = append(faults, field.Invalid(cidrs.Index(i), now[i], apivalidation.FieldImmutableErrorMsg))
		}
	}
	if added {
		faults = append(faults, checkSpec(&c.Spec)...)
	}
	return faults
}
