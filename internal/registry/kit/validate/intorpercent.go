package validate

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// IntOrPercent requires a non-negative number or a percentage. The value of a nil pointer is zero.
func IntOrPercent(value intstr.IntOrString, path *field.Path) (faults field.ErrorList) {
	if value.Type == intstr.Int {
		return NonNegative(value.IntVal, path)
	}
	for _, fault := range utilvalidation.IsValidPercent(value.StrVal) {
		faults = append(faults, field.Invalid(path, value, fault))
	}
	return faults
}

// AtMost100Percent rejects a percentage above 100.
func AtMost100Percent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if percent, ok := percentage(value); !ok || percent <= 100 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, "must not be greater than 100%")}
}

// IsZero reports whether the number or the percentage is zero.
func IsZero(value intstr.IntOrString) bool {
	if percent, ok := percentage(value); ok {
		return percent == 0
	}
	return value.IntValue() == 0
}

func percentage(value intstr.IntOrString) (int, bool) {
	if value.Type != intstr.String || len(utilvalidation.IsValidPercent(value.StrVal)) > 0 {
		return 0, false
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(value.StrVal, "%"))
	return percent, err == nil
}

// OrZero returns what a pointer points to, or zero.
func OrZero(value *intstr.IntOrString) intstr.IntOrString {
	if value == nil {
		return intstr.IntOrString{}
	}
	return *value
}
