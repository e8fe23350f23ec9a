package validate

import (
	"reflect"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DataKey checks a key of a ConfigMap's or Secret's data.
func DataKey(data *field.Path, key string) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsConfigMapKey(key) {
		faults = append(faults, field.Invalid(data.Key(key), key, fault))
	}
	return faults
}

const frozenMessage = "field is immutable when `immutable` is set"

// Frozen says whether a stored ConfigMap or Secret was made immutable.
func Frozen(immutable *bool) bool { return immutable != nil && *immutable }

// StillFrozen wants what was frozen to stay so.
func StillFrozen(immutable *bool) field.ErrorList {
	if Frozen(immutable) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), frozenMessage)}
}

// FrozenField wants a field of a frozen object to be as it was.
func FrozenField(now, old any, name string) field.ErrorList {
	if reflect.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath(name), frozenMessage)}
}
