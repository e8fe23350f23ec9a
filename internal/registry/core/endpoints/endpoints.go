// Package endpoints serves core/v1 endpoints.
package endpoints

import (
	"context"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind Endpoints.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.Endpoints]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Resource:   "endpoints",
		StorePath:  "services/endpoints",
		Singular:   "endpoints",
		ShortNames: []string{"ep"},
		Namespaced: true,
		New:        func() *corev1.Endpoints { return &corev1.Endpoints{} },
		NewList:    func() runtime.Object { return &corev1.EndpointsList{} },

		Default:  setDefaults,
		Validate: func(_ context.Context, e *corev1.Endpoints) field.ErrorList { return check(e, nil) },
		ValidateUpdate: func(_ context.Context, e, old *corev1.Endpoints) field.ErrorList {
			return append(validate.MetaUpdate(&e.ObjectMeta, &old.ObjectMeta), check(e, old)...)
		},
		Warn:                warn,
		AllowCreateOnUpdate: true,
		Table: &kit.Table[*corev1.Endpoints]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
				column.Age(),
			},
			Row: func(e *corev1.Endpoints) ([]any, []metav1.TableRowCondition) {
				return []any{e.Name, list(e.Subsets), column.Since(e.CreationTimestamp)}, nil
			},
		},
	})
}

func setDefaults(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if p := &e.Subsets[i].Ports[j]; p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
		}
	}
}

// check validates endpoints. Errors that old already had are not reported.
func check(e, old *corev1.Endpoints) field.ErrorList {
	faults := validate.Meta(&e.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	wrong := checkSubsets(e.Subsets, field.NewPath("subsets"))
	if len(wrong) > 0 && old != nil && apiequality.Semantic.DeepEqual(old.Subsets, e.Subsets) {
		return faults
	}
	return append(faults, wrong...)
}

func checkSubsets(subsets []corev1.EndpointSubset, path *field.Path) (faults field.ErrorList) {
	for i, s := range subsets {
		at := path.Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			faults = append(faults, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			faults = append(faults, checkAddress(&s.Addresses[j], at.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			faults = append(faults, checkAddress(&s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			faults = append(faults, checkPort(&s.Ports[j], len(s.Ports) > 1, at.Child("ports").Index(j))...)
		}
	}
	return faults
}

func checkAddress(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	faults := utilvalidation.IsValidIPForLegacyField(path.Child("ip"), a.IP, true, nil)
	if a.Hostname != "" {
		faults = append(faults, validate.Label(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		for _, fault := range apivalidation.NameIsDNSSubdomain(*a.NodeName, false) {
			faults = append(faults, field.Invalid(path.Child("nodeName"), *a.NodeName, fault))
		}
	}
	return append(faults, validate.EndpointIP(a.IP, path.Child("ip"))...)
}

func checkPort(p *corev1.EndpointPort, named bool, path *field.Path) (faults field.ErrorList) {
	if p.Name != "" {
		faults = append(faults, validate.Label(p.Name, path.Child("name"))...)
	} else if named {
		faults = append(faults, field.Required(path.Child("name"), ""))
	}
	for _, fault := range utilvalidation.IsValidPortNum(int(p.Port)) {
		faults = append(faults, field.Invalid(path.Child("port"), p.Port, fault))
	}
	faults = append(faults, validate.Protocol(p.Protocol, path.Child("protocol"))...)
	if p.AppProtocol != nil {
		faults = append(faults, validate.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
	}
	return faults
}

// managedLabel and manager are the label and value with which the endpoints controller marks its own objects,
// which are well formed.
const managedLabel, manager = "endpoints.kubernetes.io/managed-by", "endpoint-controller"

func warn(_ context.Context, e, _ *corev1.Endpoints) (warnings []string) {
	if e.Labels[managedLabel] == manager {
		return nil
	}
	for i, s := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		for j, a := range s.Addresses {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(at.Child("addresses").Index(j).Child("ip"), a.IP)...)
		}
		for j, a := range s.NotReadyAddresses {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
		}
	}
	return warnings
}

// shown is the number of endpoints in a cell.
const shown = 3

func list(subsets []corev1.EndpointSubset) string {
	if len(subsets) == 0 {
		return column.None
	}
	var all []string
	for _, s := range subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				all = append(all, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				all = append(all, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return column.FirstOf(all, shown)
}
