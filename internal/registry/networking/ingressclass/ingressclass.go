// Package ingressclass serves networking.k8s.io/v1 ingressclasses.
package ingressclass

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
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

// Kind returns the kind IngressClass.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*networkingv1.IngressClass]{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		Resource: "ingressclasses",
		Singular: "ingressclass",
		New:      func() *networkingv1.IngressClass { return &networkingv1.IngressClass{} },
		NewList:  func() runtime.Object { return &networkingv1.IngressClassList{} },

		Default: func(c *networkingv1.IngressClass) {
			if p := c.Spec.Parameters; p != nil && p.Scope == nil {
				p.Scope = new(networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		},
		Prepare:       func(_ context.Context, c *networkingv1.IngressClass) { c.Generation = 1 },
		Validate:      check,
		PrepareUpdate: func(_ context.Context, c, old *networkingv1.IngressClass) { specstatus.Count(c, old, c.Spec, old.Spec) },
		ValidateUpdate: func(ctx context.Context, c, old *networkingv1.IngressClass) field.ErrorList {
			return validate.InOrder(
				validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta),
				validate.Immutable(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller")),
				check(ctx, c),
			)
		},
		Table: &kit.Table[*networkingv1.IngressClass]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Controller", "Controller that is responsible for handling this class"),
				column.Text("Parameters", "A reference to a resource with additional parameters"),
				column.Age(),
			},
			Row: func(c *networkingv1.IngressClass) ([]any, []metav1.TableRowCondition) {
				name := c.Name
				if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
					name += " (default)"
				}
				return []any{name, c.Spec.Controller, parameters(c.Spec.Parameters), column.Since(c.CreationTimestamp)}, nil
			},
		},
	})
}

func parameters(p *networkingv1.IngressClassParametersReference) string {
	if p == nil {
		return column.None
	}
	words := p.Kind
	if p.APIGroup != nil {
		words += "." + *p.APIGroup
	}
	return words + "/" + p.Name
}

// maxController is the maximum length of the controller's name.
const maxController = 250

func check(_ context.Context, c *networkingv1.IngressClass) field.ErrorList {
	path := field.NewPath("spec")
	faults := validate.Meta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	if len(c.Spec.Controller) > maxController {
		faults = append(faults, field.TooLong(path.Child("controller"), "", maxController))
	}
	faults = append(faults, utilvalidation.IsDomainPrefixedPath(path.Child("controller"), c.Spec.Controller)...)
	if c.Spec.Parameters != nil {
		faults = append(faults, checkParameters(c.Spec.Parameters, path.Child("parameters"))...)
	}
	return validate.InOrder(faults)
}

func checkParameters(p *networkingv1.IngressClassParametersReference, path *field.Path) (faults field.ErrorList) {
	if p.APIGroup != nil {
		faults = append(faults, validate.Subdomain(*p.APIGroup, path.Child("apiGroup"))...)
	}
	faults = append(faults, validate.DeclaredSegment(p.Kind, path.Child("kind"))...)
	faults = append(faults, validate.DeclaredSegment(p.Name, path.Child("name"))...)
	namespace := path.Child("namespace")
	if p.Scope == nil {
		return append(faults, field.Required(path.Child("scope"), ""))
	}
	switch *p.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if p.Namespace == nil {
			return append(faults, field.Required(namespace, "`parameters.scope` is set to 'Namespace'"))
		}
		for _, fault := range apivalidation.ValidateNamespaceName(*p.Namespace, false) {
			faults = append(faults, field.Invalid(namespace, *p.Namespace, fault))
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			faults = append(faults, field.Forbidden(namespace, "`parameters.scope` is set to 'Cluster'"))
		}
	default:
		faults = append(faults, field.NotSupported(path.Child("scope"), *p.Scope, []string{
			networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}))
	}
	return faults
}
