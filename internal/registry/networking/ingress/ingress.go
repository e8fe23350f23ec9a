// Package ingress serves networking.k8s.io/v1 ingresses.
package ingress

import (
	"context"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
)

var parts = specstatus.Halves[*networkingv1.Ingress, networkingv1.IngressSpec, networkingv1.IngressStatus]{
	Spec:       func(i *networkingv1.Ingress) *networkingv1.IngressSpec { return &i.Spec },
	Status:     func(i *networkingv1.Ingress) *networkingv1.IngressStatus { return &i.Status },
	Generation: true,
}

// classAnnotation named the class before there was a field for it.
const classAnnotation = "kubernetes.io/ingress.class"

// Kind returns the kind Ingress.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*networkingv1.Ingress]{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		Resource:   "ingresses",
		StorePath:  "ingress",
		Singular:   "ingress",
		ShortNames: []string{"ing"},
		Namespaced: true,
		New:        func() *networkingv1.Ingress { return &networkingv1.Ingress{} },
		NewList:    func() runtime.Object { return &networkingv1.IngressList{} },

		Prepare:        parts.Prepare,
		Validate:       check,
		PrepareUpdate:  parts.PrepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn: func(_ context.Context, i, old *networkingv1.Ingress) []string {
			if _, set := i.Annotations[classAnnotation]; old != nil || !set || i.Spec.IngressClassName != nil {
				return nil
			}
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
		},
		Status: &kit.SubresourceRules[*networkingv1.Ingress]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
			Warn: func(_ context.Context, i, _ *networkingv1.Ingress) (warnings []string) {
				for n, in := range i.Status.LoadBalancer.Ingress {
					if in.IP != "" {
						warnings = append(warnings, utilvalidation.GetWarningsForIP(field.NewPath("status", "loadBalancer", "ingress").Index(n), in.IP)...)
					}
				}
				return warnings
			},
		},
		Table: &kit.Table[*networkingv1.Ingress]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
				column.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
				column.Text("Address", "Address is a list containing ingress points for the load-balancer"),
				column.Text("Ports", "Ports of TLS configurations that open"),
				column.Age(),
			},
			Row: row,
		},
	})
}

func row(i *networkingv1.Ingress) ([]any, []metav1.TableRowCondition) {
	class, ports := column.None, "80"
	if name := i.Spec.IngressClassName; name != nil {
		class = *name
	}
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{i.Name, class, hosts(i.Spec.Rules), addresses(&i.Status), ports, column.Since(i.CreationTimestamp)}, nil
}

// hosts lists the first three hosts of the rules, or "*" if none names a host.
func hosts(rules []networkingv1.IngressRule) string {
	const shown = 3
	var list []string
	more := false
	for _, r := range rules {
		if more = more || len(list) == shown; !more && r.Host != "" {
			list = append(list, r.Host)
		}
	}
	switch words := strings.Join(list, ","); {
	case len(list) == 0:
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", words, len(rules)-shown)
	default:
		return words
	}
}

func addresses(s *networkingv1.IngressStatus) string {
	found := sets.New[string]()
	for _, in := range s.LoadBalancer.Ingress {
		if in.IP != "" {
			found.Insert(in.IP)
		} else if in.Hostname != "" {
			found.Insert(in.Hostname)
		}
	}
	return strings.Join(sets.List(found), ",")
}
