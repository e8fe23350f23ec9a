package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

// The maximum numbers of rules and values in a policy.
const (
	maxRules         = 20
	maxConditions    = 20
	maxExitCodes     = 255
	maxIndexesLength = 64 * 1024
)

// The valid values of some fields, in the order in which messages list them.
var (
	actions   = []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}
	operators = []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	states    = []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
)

// choice requires a value that is one of the known ones.
func choice[T ~string](value T, known []T, path *field.Path) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", known))}
	case !slices.Contains(known, value):
		return field.ErrorList{field.NotSupported(path, value, known)}
	}
	return nil
}

// checkFailurePolicy validates the rules, at path, that decide what a failed Pod means.
func checkFailurePolicy(s *batchv1.JobSpec, path *field.Path) (faults field.ErrorList) {
	rules := s.PodFailurePolicy.Rules
	if len(rules) > maxRules {
		faults = append(faults, field.TooMany(path, len(rules), maxRules))
	}
	for i := range rules {
		faults = append(faults, checkFailureRule(s, &rules[i], path.Index(i))...)
	}
	return faults
}

func checkFailureRule(s *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, path *field.Path) (faults field.ErrorList) {
	if r.Action == batchv1.PodFailurePolicyActionFailIndex {
		if s.BackoffLimitPerIndex == nil {
			faults = append(faults, field.Invalid(path.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
		}
	} else {
		faults = append(faults, choice(r.Action, actions, path.Child("action"))...)
	}
	if r.OnExitCodes != nil {
		faults = append(faults, checkExitCodes(&s.Template.Spec, r.OnExitCodes, path.Child("onExitCodes"))...)
	}
	faults = append(faults, checkConditions(r.OnPodConditions, path.Child("onPodConditions"))...)
	switch codes, conditions := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
	case codes && conditions:
		faults = append(faults, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && !conditions:
		faults = append(faults, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return faults
}

func checkConditions(list []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) (faults field.ErrorList) {
	if len(list) > maxConditions {
		faults = append(faults, field.TooMany(path, len(list), maxConditions))
	}
	for i, c := range list {
		faults = append(faults, validate.QualifiedName(string(c.Type), path.Index(i).Child("type"))...)
		faults = append(faults, choice(c.Status, states, path.Index(i).Child("status"))...)
	}
	return faults
}

// checkExitCodes requires sorted, unique exit codes, and a container of the Pod if one is named.
func checkExitCodes(p *corev1.PodSpec, r *batchv1.PodFailurePolicyOnExitCodesRequirement, path *field.Path) field.ErrorList {
	faults := choice(r.Operator, operators, path.Child("operator"))
	if r.ContainerName != nil && !hasContainer(p, *r.ContainerName) {
		faults = append(faults, field.Invalid(path.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	at := path.Child("values")
	if len(r.Values) == 0 {
		faults = append(faults, field.Invalid(at, r.Values, "at least one value is required"))
	} else if len(r.Values) > maxExitCodes {
		faults = append(faults, field.TooMany(at, len(r.Values), maxExitCodes))
	}
	seen := sets.New[int32]()
	for i, code := range r.Values {
		if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && code == 0 {
			faults = append(faults, field.Invalid(at.Index(i), code, "must not be 0 for the In operator"))
		}
		if seen.Has(code) {
			faults = append(faults, field.Duplicate(at.Index(i), code))
		}
		seen.Insert(code)
	}
	if !slices.IsSorted(r.Values) {
		faults = append(faults, field.Invalid(at, r.Values, "must be ordered"))
	}
	return faults
}

func hasContainer(p *corev1.PodSpec, name string) bool {
	for c := range podspec.Containers(p) {
		if c.Name == name {
			return true
		}
	}
	return false
}

// checkSuccessPolicy validates the rules under which a Job succeeds before all of its indexes have.
func checkSuccessPolicy(s *batchv1.JobSpec, path *field.Path) (faults field.ErrorList) {
	if !indexed(s) {
		return field.ErrorList{field.Invalid(path, validate.Shown(s.SuccessPolicy), "requires indexed completion mode")}
	}
	at, rules := path.Child("rules"), s.SuccessPolicy.Rules
	if len(rules) == 0 {
		faults = append(faults, field.Required(at, "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > maxRules {
		faults = append(faults, field.TooMany(at, len(rules), maxRules))
	}
	if s.Completions == nil {
		return faults // missing, which is reported elsewhere
	}
	for i := range rules {
		faults = append(faults, checkSuccessRule(&rules[i], *s.Completions, at.Index(i))...)
	}
	return faults
}

func checkSuccessRule(r *batchv1.SuccessPolicyRule, completions int32, path *field.Path) (faults field.ErrorList) {
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		faults = append(faults, field.Required(path, "at least one of succeededCount or succeededIndexes must be specified"))
	}
	var total int32
	if indexes := r.SucceededIndexes; indexes != nil {
		at := path.Child("succeededIndexes")
		if len(*indexes) > maxIndexesLength {
			faults = append(faults, field.TooLong(at, "", maxIndexesLength))
		}
		list, err := parseIndexes(*indexes, completions)
		if err != nil {
			faults = append(faults, field.Invalid(at, *indexes, fmt.Sprintf("error parsing succeededIndexes: %s", err)))
		}
		for _, i := range list {
			total += i.last - i.first + 1
		}
	}
	if count := r.SucceededCount; count != nil {
		at := path.Child("succeededCount")
		faults = append(faults, validate.NonNegative(*count, at)...)
		if *count > completions {
			faults = append(faults, field.Invalid(at, *count, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
		}
		if r.SucceededIndexes != nil && *count > total {
			faults = append(faults, field.Invalid(at, *count, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
		}
	}
	return faults
}

// interval is a range of indexes, including both ends.
type interval struct{ first, last int32 }

// parseIndexes parses indexes in the notation of Jobs, "1,3-5,7". They must be increasing and below
// completions.
func parseIndexes(text string, completions int32) (list []interval, err error) {
	if text == "" {
		return nil, nil
	}
	for _, piece := range strings.Split(text, ",") {
		i, err := parseInterval(piece, completions)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 && list[len(list)-1].last >= i.first {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", list[len(list)-1].last, i.first)
		}
		list = append(list, i)
	}
	return list, nil
}

func parseInterval(text string, completions int32) (interval, error) {
	ends := strings.Split(text, "-")
	if len(ends) > 2 {
		return interval{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var numbers []int
	for _, end := range ends {
		n, err := strconv.Atoi(end)
		if err != nil {
			return interval{}, fmt.Errorf("cannot convert string to integer for index: %q", end)
		}
		if n >= int(completions) {
			return interval{}, fmt.Errorf("too large index: %q", end)
		}
		numbers = append(numbers, n)
	}
	first, last := numbers[0], numbers[len(numbers)-1]
	if len(numbers) == 2 && first >= last {
		return interval{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", first, last)
	}
	return interval{int32(first), int32(last)}, nil
}
