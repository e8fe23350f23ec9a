package validate

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

// Taints requires well-formed taints that are unique by key and effect.
func Taints(taints []corev1.Taint, path *field.Path) (faults field.ErrorList) {
	type pair struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := sets.New[pair]()
	for i, taint := range taints {
		at := path.Index(i)
		faults = append(faults, metav1validation.ValidateLabelName(taint.Key, at.Child("key"))...)
		if wrong := utilvalidation.IsValidLabelValue(taint.Value); len(wrong) != 0 {
			faults = append(faults, field.Invalid(at.Child("value"), taint.Value, strings.Join(wrong, ";")))
		}
		if taint.Effect == "" {
			faults = append(faults, field.Required(at.Child("effect"), ""))
		} else {
			faults = append(faults, taintEffect(taint.Effect, at.Child("effect"))...)
		}
		if seen.Has(pair{taint.Key, taint.Effect}) {
			twice := field.Duplicate(at, Shown(taint))
			twice.Detail = "taints must be unique by key and effect pair"
			faults = append(faults, twice)
		}
		seen.Insert(pair{taint.Key, taint.Effect})
	}
	return faults
}

func taintEffect(effect corev1.TaintEffect, path *field.Path) field.ErrorList {
	for _, known := range taintEffects {
		if effect == known {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, effect, taintEffects)}
}

// Tolerations requires well-formed tolerations. compare allows the operators Lt and Gt.
func Tolerations(tolerations []corev1.Toleration, path *field.Path, compare bool) (faults field.ErrorList) {
	for i, t := range tolerations {
		at := path.Index(i)
		if t.Key != "" {
			faults = append(faults, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			faults = append(faults, field.Invalid(at.Child("operator"), t.Operator,
				"operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			faults = append(faults, field.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
		faults = append(faults, tolerationValue(t, at, compare)...)
		if t.Effect != "" {
			faults = append(faults, taintEffect(t.Effect, at.Child("effect"))...)
		}
	}
	return faults
}

// tolerationValue requires a value that fits the operator.
func tolerationValue(t corev1.Toleration, path *field.Path, compare bool) (faults field.ErrorList) {
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if wrong := utilvalidation.IsValidLabelValue(t.Value); len(wrong) != 0 {
			faults = append(faults, field.Invalid(path.Child("operator"), t.Value, strings.Join(wrong, ";")))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			faults = append(faults, field.Invalid(path.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'"))
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		if !compare {
			return field.ErrorList{field.NotSupported(path.Child("operator"), t.Operator, []corev1.TolerationOperator{
				corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt})}
		}
		for _, wrong := range content.IsDecimalInteger(t.Value) {
			faults = append(faults, field.Invalid(path.Child("value"), t.Value, wrong))
		}
		if _, err := strconv.ParseInt(t.Value, 10, 64); err != nil {
			faults = append(faults, field.Invalid(path.Child("value"), t.Value, err.Error()))
		}
	default:
		faults = append(faults, field.NotSupported(path.Child("operator"), t.Operator, []corev1.TolerationOperator{
			corev1.TolerationOpEqual, corev1.TolerationOpExists}))
	}
	return faults
}
