// Package poddisruptionbudget serves policy/v1 poddisruptionbudgets.
package poddisruptionbudget

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

var parts = specstatus.Halves[*policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetSpec, policyv1.PodDisruptionBudgetStatus]{
	Spec:       func(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetSpec { return &b.Spec },
	Status:     func(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetStatus { return &b.Status },
	Generation: true,
}

// Kind returns the kind PodDisruptionBudget.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*policyv1.PodDisruptionBudget]{
		GVK:        policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Resource:   "poddisruptionbudgets",
		Singular:   "poddisruptionbudget",
		ShortNames: []string{"pdb"},
		Namespaced: true,
		New:        func() *policyv1.PodDisruptionBudget { return &policyv1.PodDisruptionBudget{} },
		NewList:    func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },

		Prepare: parts.Prepare,
		Validate: func(_ context.Context, b *policyv1.PodDisruptionBudget) field.ErrorList {
			return checkSpec(&b.Spec, false, field.NewPath("spec"))
		},
		PrepareUpdate: parts.PrepareUpdate,
		ValidateUpdate: func(_ context.Context, b, old *policyv1.PodDisruptionBudget) field.ErrorList {
			lenient := len(metav1validation.ValidateLabelSelector(old.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0
			return checkSpec(&b.Spec, lenient, field.NewPath("spec"))
		},
		DenyUnconditionalUpdate: true,
		Status: &kit.SubresourceRules[*policyv1.PodDisruptionBudget]{
			PrepareUpdate: parts.PrepareStatusUpdate,
			ValidateUpdate: func(_ context.Context, b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
				return checkStatus(&b.Status, field.NewPath("status"))
			},
		},
		Table: table(),
	})
}

// checkSpec validates a spec. lenient allows invalid label values in the selector.
func checkSpec(s *policyv1.PodDisruptionBudgetSpec, lenient bool, path *field.Path) (faults field.ErrorList) {
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		faults = append(faults, field.Invalid(path, validate.Shown(s), "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, n := range []struct {
		name  string
		value *intstr.IntOrString
	}{{"minAvailable", s.MinAvailable}, {"maxUnavailable", s.MaxUnavailable}} {
		if n.value != nil {
			faults = append(faults, validate.IntOrPercent(*n.value, path.Child(n.name))...)
			faults = append(faults, validate.AtMost100Percent(*n.value, path.Child(n.name))...)
		}
	}
	options := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: lenient}
	faults = append(faults, metav1validation.ValidateLabelSelector(s.Selector, options, path.Child("selector"))...)
	if p := s.UnhealthyPodEvictionPolicy; p != nil && *p != policyv1.AlwaysAllow && *p != policyv1.IfHealthyBudget {
		faults = append(faults, field.NotSupported(path.Child("unhealthyPodEvictionPolicy"), *p, []string{string(policyv1.AlwaysAllow), string(policyv1.IfHealthyBudget)}))
	}
	return faults
}

func checkStatus(s *policyv1.PodDisruptionBudgetStatus, path *field.Path) field.ErrorList {
	faults := metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"disruptionsAllowed", s.DisruptionsAllowed},
		{"currentHealthy", s.CurrentHealthy},
		{"desiredHealthy", s.DesiredHealthy},
		{"expectedPods", s.ExpectedPods},
	} {
		faults = append(faults, apivalidation.ValidateNonnegativeField(int64(n.value), path.Child(n.name))...)
	}
	return faults
}

func table() *kit.Table[*policyv1.PodDisruptionBudget] {
	return &kit.Table[*policyv1.PodDisruptionBudget]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Min Available", "The minimum number of pods that must be available."),
			column.Text("Max Unavailable", "The maximum number of pods that may be unavailable."),
			column.Integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
			column.Age(),
		},
		Row: func(b *policyv1.PodDisruptionBudget) ([]any, []metav1.TableRowCondition) {
			return []any{b.Name, bound(b.Spec.MinAvailable), bound(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), column.Since(b.CreationTimestamp)}, nil
		},
	}
}

func bound(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}
