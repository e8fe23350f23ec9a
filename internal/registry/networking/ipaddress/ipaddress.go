// Package ipaddress serves networking.k8s.io/v1 ipaddresses, one for each cluster IP in use.
package ipaddress

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	pathsegment "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind IPAddress.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*networkingv1.IPAddress]{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Resource:   "ipaddresses",
		Singular:   "ipaddress",
		ShortNames: []string{"ip"},
		New:        func() *networkingv1.IPAddress { return &networkingv1.IPAddress{} },
		NewList:    func() runtime.Object { return &networkingv1.IPAddressList{} },

		Validate: check,
		ValidateUpdate: func(_ context.Context, a, old *networkingv1.IPAddress) field.ErrorList {
			return validate.InOrder(
				validate.Meta(&a.ObjectMeta, false, name),
				validate.Kept(!apiequality.Semantic.DeepEqual(a.Spec.ParentRef, old.Spec.ParentRef), checkParent(a.Spec.ParentRef)),
				validate.MetaUpdate(&a.ObjectMeta, &old.ObjectMeta),
				validate.Same(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef")),
			)
		},
		Table: &kit.Table[*networkingv1.IPAddress]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]),
			},
			Row: func(a *networkingv1.IPAddress) ([]any, []metav1.TableRowCondition) {
				return []any{a.Name, parent(a.Spec.ParentRef)}, nil
			},
		},
	})
}

// parent returns the object that the address is allocated to, such as "services/default/kubernetes".
func parent(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return column.None
	}
	words := ref.Resource
	if ref.Group != "" {
		words += "." + ref.Group
	}
	words = strings.ToLower(words)
	if ref.Namespace != "" {
		words += "/" + ref.Namespace
	}
	return words + "/" + ref.Name
}

// name requires the canonical form of an address.
func name(name string, _ bool) (faults []string) {
	for _, f := range utilvalidation.IsValidIP(&field.Path{}, name) {
		faults = append(faults, f.Detail)
	}
	return faults
}

func check(_ context.Context, a *networkingv1.IPAddress) field.ErrorList {
	return validate.InOrder(
		validate.Meta(&a.ObjectMeta, false, name),
		checkParent(a.Spec.ParentRef),
	)
}

func checkParent(ref *networkingv1.ParentReference) (faults field.ErrorList) {
	path := field.NewPath("spec", "parentRef")
	if ref == nil {
		return field.ErrorList{validate.Missing(path)}
	}
	if ref.Group != "" {
		for _, fault := range utilvalidation.IsDNS1123Subdomain(ref.Group) {
			faults = append(faults, field.Invalid(path.Child("group"), ref.Group, fault))
		}
	}
	segment := func(value string, at *field.Path, required bool) {
		if value == "" && required {
			faults = append(faults, validate.Missing(at))
		}
		for _, fault := range pathsegment.IsValidPathSegmentName(value) {
			faults = append(faults, field.Invalid(at, value, fault))
		}
	}
	segment(ref.Resource, path.Child("resource"), true)
	segment(ref.Name, path.Child("name"), true)
	segment(ref.Namespace, path.Child("namespace"), false)
	return faults
}
