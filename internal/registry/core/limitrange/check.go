package limitrange

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

func check(l *corev1.LimitRange) field.ErrorList {
	faults := validate.Meta(&l.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	seen := sets.New[corev1.LimitType]()
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		faults = append(faults, checkType(item.Type, at.Child("type"))...)
		if seen.Has(item.Type) {
			faults = append(faults, field.Duplicate(at.Child("type"), item.Type))
		}
		seen.Insert(item.Type)
		faults = append(faults, checkItem(item, at)...)
	}
	return faults
}

func checkType(t corev1.LimitType, path *field.Path) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsQualifiedName(string(t)) {
		faults = append(faults, field.Invalid(path, t, fault))
	}
	known := []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}
	if len(faults) == 0 && !strings.Contains(string(t), "/") && !slices.Contains(known, t) {
		faults = append(faults, field.Invalid(path, t, "must be a standard limit type or fully qualified"))
	}
	return faults
}

func checkItem(item *corev1.LimitRangeItem, path *field.Path) (faults field.ErrorList) {
	resources := sets.New[corev1.ResourceName]()
	names := func(part string, list corev1.ResourceList) {
		for name := range list {
			faults = append(faults, checkName(item.Type, name, path.Child(part).Key(string(name)))...)
			resources.Insert(name)
		}
	}
	names("max", item.Max)
	names("min", item.Min)
	fallback, fallbackRequest := item.Default, item.DefaultRequest
	if item.Type == corev1.LimitTypePod {
		const fault = "may not be specified when `type` is 'Pod'"
		if len(fallback) > 0 {
			faults = append(faults, field.Forbidden(path.Child("default"), fault))
		}
		if len(fallbackRequest) > 0 {
			faults = append(faults, field.Forbidden(path.Child("defaultRequest"), fault))
		}
		fallback, fallbackRequest = nil, nil
	}
	names("default", fallback)
	names("defaultRequest", fallbackRequest)
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, min := item.Min[corev1.ResourceStorage]
		_, max := item.Max[corev1.ResourceStorage]
		if !min && !max {
			faults = append(faults, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	names("maxLimitRequestRatio", item.MaxLimitRequestRatio)
	for name := range resources {
		l := limits{path: path, name: name}
		l.min, l.max = find(item.Min, name), find(item.Max, name)
		l.fallback, l.request = find(fallback, name), find(fallbackRequest, name)
		l.ratio = find(item.MaxLimitRequestRatio, name)
		faults = append(faults, l.check()...)
	}
	return faults
}

func checkName(t corev1.LimitType, name corev1.ResourceName, path *field.Path) field.ErrorList {
	if t == corev1.LimitTypePod || t == corev1.LimitTypeContainer {
		return validate.ContainerResourceName(name, path)
	}
	return validate.ResourceName(name, path)
}

func find(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if value, ok := list[name]; ok {
		return &value
	}
	return nil
}

// limits are the limits of one resource; nil means that a limit is not set. They must be ordered: min, default
// request, default limit, max.
type limits struct {
	path                               *field.Path
	name                               corev1.ResourceName
	min, max, fallback, request, ratio *resource.Quantity
}

func (l *limits) check() (faults field.ErrorList) {
	exceeds := func(small, great *resource.Quantity, part string, culprit *resource.Quantity, words string) {
		if small != nil && great != nil && small.Cmp(*great) > 0 {
			faults = append(faults, field.Invalid(l.path.Child(part).Key(string(l.name)), *culprit, fmt.Sprintf(words, small.String(), great.String())))
		}
	}
	exceeds(l.min, l.max, "min", l.min, "min value %s is greater than max value %s")
	exceeds(l.min, l.request, "defaultRequest", l.request, "min value %s is greater than default request value %s")
	exceeds(l.request, l.max, "defaultRequest", l.request, "default request value %s is greater than max value %s")
	exceeds(l.request, l.fallback, "defaultRequest", l.request, "default request value %s is greater than default limit value %s")
	exceeds(l.min, l.fallback, "default", l.min, "min value %s is greater than default value %s")
	exceeds(l.fallback, l.max, "default", l.max, "default value %s is greater than max value %s")
	faults = append(faults, l.checkRatio()...)
	if !validate.IsOvercommitAllowed(l.name) && l.fallback != nil && l.request != nil && l.fallback.Cmp(*l.request) != 0 {
		faults = append(faults, field.Invalid(l.path.Child("defaultRequest").Key(string(l.name)), *l.request,
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", l.fallback.String(), l.request.String(), l.name)))
	}
	return faults
}

// checkRatio requires a limit/request ratio that is possible within the bounds.
func (l *limits) checkRatio() (faults field.ErrorList) {
	if l.ratio == nil {
		return nil
	}
	refuse := func(words string) {
		faults = append(faults, field.Invalid(l.path.Child("maxLimitRequestRatio").Key(string(l.name)), *l.ratio, words))
	}
	if l.ratio.Cmp(resource.MustParse("1")) < 0 {
		refuse(fmt.Sprintf("ratio %s is less than 1", l.ratio.String()))
	}
	if l.min == nil || l.max == nil {
		return faults
	}
	ratio, min, max := float64(l.ratio.Value()), l.min.Value(), l.max.Value()
	if l.ratio.Value() < resource.MaxMilliValue && min < resource.MaxMilliValue && max < resource.MaxMilliValue {
		ratio, min, max = float64(l.ratio.MilliValue())/1000, l.min.MilliValue(), l.max.MilliValue()
	}
	if bound := float64(max) / float64(min); ratio > bound {
		refuse(fmt.Sprintf("ratio %s is greater than max/min = %f", l.ratio.String(), bound))
	}
	return faults
}
