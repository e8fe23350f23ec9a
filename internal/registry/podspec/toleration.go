package podspec

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// CheckTolerations returns every fault of a list of tolerations.
func CheckTolerations(list []corev1.Toleration, lenient Lenience, at *field.Path) field.ErrorList {
	c := &checker{lenient: lenient}
	c.tolerations(list, at)
	return c.Errors()
}

func (c *checker) tolerations(list []corev1.Toleration, at *field.Path) {
	for i := range list {
		c.toleration(&list[i], at.Index(i))
	}
}

func (c *checker) toleration(t *corev1.Toleration, at *field.Path) {
	if t.Key != "" {
		c.Add(metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
	} else if t.Operator != corev1.TolerationOpExists {
		c.Invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		c.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
	}
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			c.Invalid(at.Child("operator"), t.Value, strings.Join(msgs, ";"))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			c.Invalid(at.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		c.numericToleration(t, at)
	default:
		fielderrors.OneOf(&c.List, at.Child("operator"), t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
	if t.Effect != "" {
		fielderrors.OneOf(&c.List, at.Child("effect"), t.Effect, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
	}
}

// numericToleration judges a toleration that compares numbers. New ones are refused: the feature is off by
// default. The refusal still names the operators, as Kubernetes' does.
func (c *checker) numericToleration(t *corev1.Toleration, at *field.Path) {
	if !c.lenient.numericTolerations {
		c.Add(field.NotSupported(at.Child("operator"), t.Operator,
			[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt}))
		return
	}
	c.InvalidEach(at.Child("value"), t.Value, content.IsDecimalInteger(t.Value))
	if _, err := strconv.ParseInt(t.Value, 10, 64); err != nil {
		c.Invalid(at.Child("value"), t.Value, err.Error())
	}
}
