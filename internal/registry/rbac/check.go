package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	pathsegment "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

// name accepts every name that is valid as a path segment, such as "system:node".
func name(name string, _ bool) []string { return pathsegment.IsValidPathSegmentName(name) }

func checkRole(r *rbacv1.Role) field.ErrorList {
	return validate.InOrder(validate.Meta(&r.ObjectMeta, true, name), checkRules(r.Rules, true))
}

func checkClusterRole(r, old *rbacv1.ClusterRole) field.ErrorList {
	faults := validate.InOrder(validate.Meta(&r.ObjectMeta, false, name), checkRules(r.Rules, false))
	if r.AggregationRule == nil {
		return faults
	}
	path := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		faults = append(faults, field.Required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	options := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: old != nil && badSelector(old)}
	for i, selector := range r.AggregationRule.ClusterRoleSelectors {
		faults = append(faults, metav1validation.ValidateLabelSelector(&selector, options, path.Index(i))...)
		if s, err := metav1.LabelSelectorAsSelector(&selector); err != nil {
			faults = append(faults, field.Invalid(path.Index(i), s, "invalid label selector."))
		}
	}
	return validate.InOrder(faults)
}

// badSelector reports whether a stored role has a selector that a new role must not have.
func badSelector(r *rbacv1.ClusterRole) bool {
	if r.AggregationRule == nil {
		return false
	}
	for _, s := range r.AggregationRule.ClusterRoleSelectors {
		if len(metav1validation.ValidateLabelSelector(&s, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0 {
			return true
		}
	}
	return false
}

func checkRules(rules []rbacv1.PolicyRule, namespaced bool) (faults field.ErrorList) {
	for i, rule := range rules {
		faults = append(faults, checkRule(rule, namespaced, field.NewPath("rules").Index(i))...)
	}
	return faults
}

// checkRule requires that a rule is about either resources or non-resource URLs.
func checkRule(rule rbacv1.PolicyRule, namespaced bool, path *field.Path) (faults field.ErrorList) {
	if len(rule.Verbs) == 0 {
		faults = append(faults, validate.Missing(path.Child("verbs")))
	}
	if len(rule.NonResourceURLs) > 0 {
		at := path.Child("nonResourceURLs")
		if namespaced {
			faults = append(faults, field.Invalid(at, rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			faults = append(faults, field.Invalid(at, rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return faults
	}
	if len(rule.APIGroups) == 0 {
		faults = append(faults, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(rule.Resources) == 0 {
		faults = append(faults, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
	}
	return faults
}

// checkBinding validates the role reference, which must be of one of the kinds, and the subjects. old is the
// stored reference, which must not change.
func checkBinding(meta field.ErrorList, ref rbacv1.RoleRef, old *rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool, kinds ...string) field.ErrorList {
	at := field.NewPath("roleRef")
	faults := append(meta, oneOf(ref.APIGroup, at.Child("apiGroup"), rbacv1.GroupName)...)
	faults = append(faults, oneOf(ref.Kind, at.Child("kind"), kinds...)...)
	changed := old != nil && *old != ref
	var missing field.ErrorList
	if ref.Name == "" && changed {
		faults = append(faults, field.Required(at.Child("name"), ""))
	} else if ref.Name == "" {
		missing = field.ErrorList{validate.Missing(at.Child("name"))}
	}
	for _, fault := range pathsegment.IsValidPathSegmentName(ref.Name) {
		faults = append(faults, field.Invalid(at.Child("name"), ref.Name, fault))
	}
	for i, subject := range subjects {
		faults = append(faults, checkSubject(subject, namespaced, field.NewPath("subjects").Index(i))...)
	}
	if changed {
		faults = append(faults, validate.Immutable(ref, *old, at)...)
	}
	return validate.InOrder(faults, missing)
}

func oneOf(value string, path *field.Path, known ...string) field.ErrorList {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, value, known)}
}

func checkSubject(s rbacv1.Subject, namespaced bool, path *field.Path) (faults field.ErrorList) {
	if s.Name == "" {
		faults = append(faults, validate.Missing(path.Child("name")))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			for _, fault := range apivalidation.ValidateServiceAccountName(s.Name, false) {
				faults = append(faults, field.Invalid(path.Child("name"), s.Name, fault))
			}
		}
		faults = append(faults, oneOf(s.APIGroup, path.Child("apiGroup"), "")...)
		if !namespaced && s.Namespace == "" {
			faults = append(faults, field.Required(path.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		faults = append(faults, oneOf(s.APIGroup, path.Child("apiGroup"), rbacv1.GroupName)...)
	default:
		faults = append(faults, field.NotSupported(path.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return faults
}

// updated validates metadata by the rules for creates and by those for updates.
func updated(now, old *metav1.ObjectMeta, namespaced bool) field.ErrorList {
	return append(validate.Meta(now, namespaced, name), validate.MetaUpdate(now, old)...)
}
