// Package endpointslice serves discovery.k8s.io/v1 endpointslices.
package endpointslice

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// Kind returns the kind EndpointSlice.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*discoveryv1.EndpointSlice]{
		GVK:        discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Resource:   "endpointslices",
		Singular:   "endpointslice",
		Namespaced: true,
		New:        func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		NewList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },

		Default:        setDefaults,
		Prepare:        prepare,
		Validate:       func(_ context.Context, s *discoveryv1.EndpointSlice) field.ErrorList { return check(s, nil) },
		PrepareUpdate:  prepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Table:          table(),
	})
}

func setDefaults(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = new("")
		}
		if p.Protocol == nil {
			p.Protocol = new(corev1.ProtocolTCP)
		}
	}
}

func prepare(_ context.Context, s *discoveryv1.EndpointSlice) {
	s.Generation = 1
	dropTopology(s)
}

// prepareUpdate counts every change except of annotations and the like. The kind has no status.
func prepareUpdate(_ context.Context, s, old *discoveryv1.EndpointSlice) {
	defer dropTopology(s)
	same := apiequality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) && apiequality.Semantic.DeepEqual(s.Ports, old.Ports) &&
		s.AddressType == old.AddressType && apiequality.Semantic.DeepEqual(s.Labels, old.Labels)
	if s.Generation = old.Generation; !same {
		s.Generation++
	}
}

// dropTopology clears a field that only the beta version of the kind could write.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

// wellFormed are the controllers that write addresses in canonical form.
var wellFormed = map[string]bool{"endpointslice-controller.k8s.io": true, "endpointslicemirroring-controller.k8s.io": true}

func warn(_ context.Context, s, old *discoveryv1.EndpointSlice) (warnings []string) {
	if old == nil && s.AddressType == discoveryv1.AddressTypeFQDN {
		warnings = append(warnings, "spec.addressType: FQDN endpoints are deprecated")
	}
	if wellFormed[s.Labels[discoveryv1.LabelManagedBy]] {
		return warnings
	}
	for i, e := range s.Endpoints {
		for j, a := range e.Addresses {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), a)...)
		}
	}
	return warnings
}

func table() *kit.Table[*discoveryv1.EndpointSlice] {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return &kit.Table[*discoveryv1.EndpointSlice]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("AddressType", doc["addressType"]),
			column.Text("Ports", doc["ports"]),
			column.Text("Endpoints", doc["endpoints"]),
			column.Age(),
		},
		Row: func(s *discoveryv1.EndpointSlice) ([]any, []metav1.TableRowCondition) {
			return []any{s.Name, string(s.AddressType), list(ports(s)), list(addresses(s)), column.Since(s.CreationTimestamp)}, nil
		},
	}
}

// list formats the first three.
func list(words []string) string {
	if cell := column.FirstOf(words, 3); cell != "" {
		return cell
	}
	return column.Unset
}

func ports(s *discoveryv1.EndpointSlice) (words []string) {
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			words = append(words, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			words = append(words, *p.Name)
		default:
			words = append(words, "*")
		}
	}
	return words
}

func addresses(s *discoveryv1.EndpointSlice) (words []string) {
	for _, e := range s.Endpoints {
		words = append(words, e.Addresses...)
	}
	return words
}
