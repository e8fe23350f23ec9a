package resourcequota

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

var (
	spec   = field.NewPath("spec")
	status = field.NewPath("status")
)

func check(_ context.Context, q *corev1.ResourceQuota) field.ErrorList {
	faults := validate.Meta(&q.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(faults, checkSpec(&q.Spec)...)
}

func checkUpdate(_ context.Context, q, old *corev1.ResourceQuota) field.ErrorList {
	faults := validate.MetaUpdate(&q.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkSpec(&q.Spec)...)
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		faults = append(faults, field.Invalid(spec.Child("scopes"), q.Spec.Scopes, apivalidation.FieldImmutableErrorMsg))
	}
	return faults
}

func checkStatusUpdate(_ context.Context, q, old *corev1.ResourceQuota) field.ErrorList {
	faults := validate.MetaUpdate(&q.ObjectMeta, &old.ObjectMeta)
	if q.ResourceVersion == "" {
		faults = append(faults, field.Required(field.NewPath("resourceVersion"), ""))
	}
	faults = append(faults, checkList(q.Status.Hard, status.Child("hard"))...)
	return append(faults, checkList(q.Status.Used, status.Child("used"))...)
}

func checkList(list corev1.ResourceList, path *field.Path) (faults field.ErrorList) {
	for name, value := range list {
		at := path.Key(string(name))
		faults = append(faults, validate.QuotaResourceName(name, at)...)
		faults = append(faults, validate.ResourceQuantity(name, value, at)...)
	}
	return faults
}

func checkSpec(s *corev1.ResourceQuotaSpec) field.ErrorList {
	faults := checkList(s.Hard, spec.Child("hard"))
	faults = append(faults, checkScopes(s, spec.Child("scopes"))...)
	if s.ScopeSelector != nil {
		faults = append(faults, checkSelector(s, spec.Child("scopeSelector", "matchExpressions"))...)
	}
	return faults
}

func checkScopes(s *corev1.ResourceQuotaSpec, path *field.Path) (faults field.ErrorList) {
	if len(s.Scopes) == 0 {
		return nil
	}
	for _, scope := range s.Scopes {
		if !known(scope) {
			faults = append(faults, field.Invalid(path, s.Scopes, "unsupported scope"))
		}
		for range unscoped(s.Hard, scope) {
			faults = append(faults, field.Invalid(path, s.Scopes, "unsupported scope applied to resource"))
		}
	}
	return append(faults, checkConflicts(s, s.Scopes, path)...)
}

func checkSelector(s *corev1.ResourceQuotaSpec, path *field.Path) (faults field.ErrorList) {
	var scopes []corev1.ResourceQuotaScope
	for _, r := range s.ScopeSelector.MatchExpressions {
		if !known(r.ScopeName) {
			faults = append(faults, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"))
		}
		for range unscoped(s.Hard, r.ScopeName) {
			faults = append(faults, field.Invalid(path, validate.Shown(s.ScopeSelector), "unsupported scope applied to resource"))
		}
		faults = append(faults, checkOperator(r, path)...)
		scopes = append(scopes, r.ScopeName)
	}
	return append(faults, checkConflicts(s, scopes, path)...)
}

// checkOperator requires an operator that fits the scope and the values.
func checkOperator(r corev1.ScopedResourceSelectorRequirement, path *field.Path) (faults field.ErrorList) {
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if r.Operator != corev1.ScopeSelectorOpExists {
			faults = append(faults, field.Invalid(path.Child("operator"), r.Operator,
				"must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch r.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(r.Values) == 0 {
			faults = append(faults, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(r.Values) != 0 {
			faults = append(faults, field.Invalid(path.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		faults = append(faults, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	return faults
}

// checkConflicts rejects scopes that exclude each other.
func checkConflicts(s *corev1.ResourceQuotaSpec, scopes []corev1.ResourceQuotaScope, path *field.Path) (faults field.ErrorList) {
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			faults = append(faults, field.Invalid(path, s.Scopes, "conflicting scopes"))
		}
	}
	return faults
}

// The resources to which the scopes of Pods and of volume claims apply.
var (
	podCount   = sets.New(corev1.ResourcePods)
	podCompute = podCount.Union(sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU,
		corev1.ResourceLimitsMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory))
	claims = sets.New(corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage)

	scopes = map[corev1.ResourceQuotaScope]sets.Set[corev1.ResourceName]{
		corev1.ResourceQuotaScopeTerminating:               podCompute,
		corev1.ResourceQuotaScopeNotTerminating:            podCompute,
		corev1.ResourceQuotaScopeBestEffort:                podCount,
		corev1.ResourceQuotaScopeNotBestEffort:             podCompute,
		corev1.ResourceQuotaScopePriorityClass:             podCompute,
		corev1.ResourceQuotaScopeCrossNamespacePodAffinity: podCompute,
		corev1.ResourceQuotaScopeVolumeAttributesClass:     claims,
	}
)

func known(scope corev1.ResourceQuotaScope) bool {
	_, ok := scopes[scope]
	return ok
}

// unscoped returns the resources of the list to which the scope does not apply.
func unscoped(hard corev1.ResourceList, scope corev1.ResourceQuotaScope) (names []corev1.ResourceName) {
	allowed, ok := scopes[scope]
	if !ok {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(hard)) {
		if validate.IsQuotaResource(name) && !allowed.Has(name) {
			names = append(names, name)
		}
	}
	return names
}
