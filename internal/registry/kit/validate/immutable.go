package validate

import (
	"reflect"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// Same requires an unchanged field, with the message of Kubernetes' declared rules, which does not contain the
// value.
func Same(now, old any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return Declared(field.Invalid(path, nil, apivalidation.FieldImmutableErrorMsg))
}

// Immutable requires an unchanged field, with the message of Kubernetes' handwritten rules, which contains the
// value.
func Immutable(now, old any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, Shown(now), apivalidation.FieldImmutableErrorMsg)}
}

// Shown returns a value in the form in which Kubernetes shows it; see fielderrors.GoView.
func Shown(value any) any {
	t := reflect.TypeOf(value)
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return value
	}
	return fielderrors.GoView(value)
}
