package validate

import (
	"reflect"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/fault"
)

// Same wants a field to be as it was, in the words of Kubernetes' declared rules, which do not repeat the value.
func Same(now, old any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return Declared(field.Invalid(path, nil, apivalidation.FieldImmutableErrorMsg))
}

// Immutable wants a field to be as it was, in the words of Kubernetes' other rules, which repeat the value.
func Immutable(now, old any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, Shown(now), apivalidation.FieldImmutableErrorMsg)}
}

// Shown is a value in the form that Kubernetes shows it in: see fault.GoView.
func Shown(value any) any {
	t := reflect.TypeOf(value)
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return value
	}
	return fault.GoView(value)
}
