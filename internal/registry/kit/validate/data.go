package validate

import (
	"reflect"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DataKey validates a key in the data of a ConfigMap or Secret.
func DataKey(data *field.Path, key string) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsConfigMapKey(key) {
		faults = append(faults, field.Invalid(data.Key(key), key, fault))
	}
	return faults
}

const frozenMessage = "field is immutable when `immutable` is set"

// Frozen reports whether a stored ConfigMap or Secret was made immutable.
func Frozen(immutable *bool) bool { return immutable != nil && *immutable }

// StillFrozen requires that an immutable object stays immutable.
func StillFrozen(immutable *bool) field.ErrorList {
	if Frozen(immutable) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), frozenMessage)}
}

// FrozenField requires that a field of an immutable object is unchanged.
func FrozenField(now, old any, name string) field.ErrorList {
	if reflect.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath(name), frozenMessage)}
}
