// Package workload holds what the kinds with a Pod template share: rules for selectors, templates and counts,
// the columns of their containers, and the scale subresource.
package workload

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/podspec"
)

// NoMatch is the error of a template whose labels its own selector does not select.
const NoMatch = "`selector` does not match template `labels`"

// SelectorAndTemplate validates the selector and the template of the spec at path. what and deadline name kinds
// in the messages ("deployment", "ReplicaSet") as Kubernetes does, which is not always the kind at hand. old is
// the stored template, or nil.
func SelectorAndTemplate(selector *metav1.LabelSelector, template, old *corev1.PodTemplateSpec, what, deadline string, path *field.Path) (faults field.ErrorList) {
	at := path.Child("selector")
	if selector == nil {
		faults = append(faults, field.Required(at, ""))
	} else {
		faults = append(faults, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
		faults = append(faults, NotEmpty(selector, what, at)...)
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(faults, field.Invalid(at, selector, "invalid label selector"))
	}
	at = path.Child("template")
	faults = append(faults, Matches(s, template, at)...)
	faults = append(faults, podspec.CheckTemplate(template, old, at)...)
	return append(faults, RunsForEver(template, deadline, at)...)
}

// NotEmpty rejects a selector that selects everything.
func NotEmpty(selector *metav1.LabelSelector, what string, path *field.Path) field.ErrorList {
	if len(selector.MatchLabels)+len(selector.MatchExpressions) > 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, selector, fmt.Sprintf("empty selector is invalid for %s", what))}
}

// Matches requires that the selector selects the Pods of the template at path.
func Matches(s labels.Selector, template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	if s.Empty() || s.Matches(labels.Set(template.Labels)) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("metadata", "labels"), template.Labels, NoMatch)}
}

// RunsForEver requires that the Pods of the template at path never end by themselves. what names the kind.
func RunsForEver(template *corev1.PodTemplateSpec, what string, path *field.Path) (faults field.ErrorList) {
	if policy := template.Spec.RestartPolicy; policy != corev1.RestartPolicyAlways {
		faults = append(faults, field.NotSupported(path.Child("spec", "restartPolicy"), policy, []string{string(corev1.RestartPolicyAlways)}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		faults = append(faults, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), fmt.Sprintf("activeDeadlineSeconds in %s is not Supported", what)))
	}
	return faults
}

// Count is a number in a status or spec, with its field name.
type Count struct {
	Name  string
	Value int64
}

// Number returns a count that is always set.
func Number[N ~int32 | ~int64](name string, value N) Count { return Count{name, int64(value)} }

// Optional returns a count that may be missing, which means zero.
func Optional[N ~int32 | ~int64](name string, value *N) Count {
	if value == nil {
		return Count{name, 0}
	}
	return Count{name, int64(*value)}
}

// NonNegative requires non-negative numbers.
func NonNegative(path *field.Path, list ...Count) (faults field.ErrorList) {
	for _, c := range list {
		faults = append(faults, apivalidation.ValidateNonnegativeField(c.Value, path.Child(c.Name))...)
	}
	return faults
}

// AtMost requires that counts do not exceed another count, which the message names.
func AtMost(limit int32, named string, path *field.Path, list ...Count) (faults field.ErrorList) {
	for _, c := range list {
		if c.Value > int64(limit) {
			faults = append(faults, field.Invalid(path.Child(c.Name), c.Value, "cannot be greater than "+named))
		}
	}
	return faults
}

// NotDecremented requires that the count of name collisions does not decrease.
func NotDecremented(now, old *int32, path *field.Path) field.ErrorList {
	value := int32(0)
	if now != nil {
		value = *now
	}
	if old == nil || value >= *old {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("collisionCount"), value, "cannot be decremented")}
}

// WarnName returns a warning about a name that leads to surprising Pod names.
func WarnName(name string) []string {
	faults := utilvalidation.IsDNS1123Label(name)
	if len(faults) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", faults)}
}

// ContainerColumns returns the wide columns of the template's containers. Containers formats their cells.
func ContainerColumns() []column.Definition {
	return []column.Definition{
		column.Wide(column.Text("Containers", "Names of each container in the template.")),
		column.Wide(column.Text("Images", "Images referenced by each container in the template.")),
	}
}

// Containers lists the names and the images of containers.
func Containers(list []corev1.Container) (names, images string) {
	n, i := make([]string, len(list)), make([]string, len(list))
	for k, c := range list {
		n[k], i[k] = c.Name, c.Image
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// Replicas returns the number of wanted Pods, or 0 if it is not set.
func Replicas(n *int32) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}
