package validate

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Same wants a field to be as it was, in the words of Kubernetes' declared rules, which do not repeat the value.
// Fields that are checked by hand there are checked with apivalidation.ValidateImmutableField.
func Same(now, old any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return Declared(field.Invalid(path, nil, "field is immutable"))
}
