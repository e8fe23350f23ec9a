package job

import (
	"context"
	"fmt"
	"maps"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

// The maxima of numbers in a Job.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	manyCompletions       = 100_000 // above this, the next two apply
	highParallelism       = 10_000
	highFailedIndexes     = 10_000
	maxManagedBy          = 63
)

func check(_ context.Context, j *batchv1.Job) field.ErrorList {
	faults := validate.Meta(&j.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, checkGenerated(j)...)
	faults = append(faults, CheckSpec(&j.Spec, nil, field.NewPath("spec"))...)
	faults = append(faults, checkSelector(&j.Spec, false, field.NewPath("spec"))...)
	return append(faults, checkPodNames(j)...)
}

// checkGenerated requires the labels and the selector that generateSelector sets, unless the client chose its
// own.
func checkGenerated(j *batchv1.Job) (faults field.ErrorList) {
	if j.Spec.Selector == nil || j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return nil
	}
	if j.UID == "" {
		faults = append(faults, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	own := ownLabels(j)
	for _, label := range []string{legacyUIDLabel, legacyNameLabel, batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		at := field.NewPath("spec", "template", "metadata", "labels").Key(label)
		has, ok := j.Spec.Template.Labels[label]
		switch must := fmt.Sprintf("must be '%s'", own[label]); {
		case !ok:
			faults = append(faults, field.Required(at, must))
		case has != own[label]:
			faults = append(faults, field.Invalid(at, j.Spec.Template.Labels, must))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(own)) {
		faults = append(faults, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return faults
}

func checkSelector(s *batchv1.JobSpec, lenient bool, path *field.Path) (faults field.ErrorList) {
	if s.Selector == nil {
		faults = append(faults, field.Required(path.Child("selector"), ""))
	} else {
		options := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: lenient}
		faults = append(faults, metav1validation.ValidateLabelSelector(s.Selector, options, path.Child("selector"))...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		faults = append(faults, field.Invalid(path.Child("template", "metadata", "labels"), s.Template.Labels, workload.NoMatch))
	}
	return faults
}

// checkPodNames requires a name that leaves room for the index of the last Pod.
func checkPodNames(j *batchv1.Job) field.ErrorList {
	n := workload.Replicas(j.Spec.Completions)
	if !indexed(&j.Spec) || n <= 0 {
		return nil
	}
	last := fmt.Sprintf("%s-%d", j.Name, n-1)
	if len(utilvalidation.IsDNS1123Label(last)) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), j.Name, fmt.Sprintf("will not able to create pod with invalid DNS label: %s", last))}
}

// CheckSpec validates the spec of a Job or of a Job template at path, except for the selector. old is the
// stored spec, or nil.
func CheckSpec(s, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	faults := workload.NonNegative(path,
		workload.Optional("parallelism", s.Parallelism),
		workload.Optional("completions", s.Completions),
		workload.Optional("activeDeadlineSeconds", s.ActiveDeadlineSeconds),
		workload.Optional("backoffLimit", s.BackoffLimit),
		workload.Optional("ttlSecondsAfterFinished", s.TTLSecondsAfterFinished),
		workload.Optional("backoffLimitPerIndex", s.BackoffLimitPerIndex),
		workload.Optional("maxFailedIndexes", s.MaxFailedIndexes),
	)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		faults = append(faults, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		faults = append(faults, utilvalidation.IsDomainPrefixedPath(path.Child("managedBy"), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			faults = append(faults, field.TooLong(path.Child("managedBy"), "", maxManagedBy))
		}
	}
	faults = append(faults, checkMode(s, path)...)
	if s.PodFailurePolicy != nil {
		faults = append(faults, checkFailurePolicy(s, path.Child("podFailurePolicy", "rules"))...)
	}
	if s.SuccessPolicy != nil {
		faults = append(faults, checkSuccessPolicy(s, path.Child("successPolicy"))...)
	}
	faults = append(faults, checkReplacement(s, path.Child("podReplacementPolicy"))...)
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = &old.Template
	}
	faults = append(faults, podspec.CheckTemplate(&s.Template, before, path.Child("template"))...)
	return append(faults, checkRestart(s, path.Child("template", "spec", "restartPolicy"))...)
}

// checkMode validates what depends on the completion mode.
func checkMode(s *batchv1.JobSpec, path *field.Path) (faults field.ErrorList) {
	if m := s.CompletionMode; m != nil && *m != batchv1.NonIndexedCompletion && *m != batchv1.IndexedCompletion {
		faults = append(faults, field.NotSupported(path.Child("completionMode"), m, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
	}
	switch {
	case indexed(s):
		return append(faults, checkIndexed(s, path)...)
	case s.CompletionMode == nil || *s.CompletionMode == batchv1.NonIndexedCompletion:
		if s.BackoffLimitPerIndex != nil {
			faults = append(faults, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			faults = append(faults, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
	}
	return faults
}

func checkIndexed(s *batchv1.JobSpec, path *field.Path) (faults field.ErrorList) {
	exceeds := func(n *int32, limit int32, name, words string) {
		if n != nil && *n > limit {
			faults = append(faults, field.Invalid(path.Child(name), *n, "must be less than or equal to "+words))
		}
	}
	if s.Completions == nil {
		faults = append(faults, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	exceeds(s.Parallelism, maxIndexedParallelism, "parallelism", fmt.Sprintf("%d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion))
	if s.Completions != nil {
		exceeds(s.MaxFailedIndexes, *s.Completions, "maxFailedIndexes", "completions")
	}
	exceeds(s.MaxFailedIndexes, maxFailedIndexes, "maxFailedIndexes", fmt.Sprint(maxFailedIndexes))
	if workload.Replicas(s.Completions) <= manyCompletions || s.BackoffLimitPerIndex == nil {
		return faults
	}
	if s.MaxFailedIndexes == nil {
		faults = append(faults, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	const many = "%d when completions are above %d and used with backoff limit per index"
	exceeds(s.Parallelism, highParallelism, "parallelism", fmt.Sprintf(many, highParallelism, manyCompletions))
	exceeds(s.MaxFailedIndexes, highFailedIndexes, "maxFailedIndexes", fmt.Sprintf(many, highFailedIndexes, manyCompletions))
	return faults
}

func checkReplacement(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.PodReplacementPolicy == nil {
		return nil
	}
	known := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		known = known[:1]
	}
	for _, k := range known {
		if *s.PodReplacementPolicy == k {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, *s.PodReplacementPolicy, known)}
}

// checkRestart requires Pods that end.
func checkRestart(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch policy := s.Template.Spec.RestartPolicy; policy {
	case corev1.RestartPolicyAlways, "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case corev1.RestartPolicyOnFailure:
		if s.PodFailurePolicy != nil {
			return field.ErrorList{field.Invalid(path, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
		}
	case corev1.RestartPolicyNever:
	default:
		return field.ErrorList{field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	}
	return nil
}

func checkUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	lenient := metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	faults := validate.MetaUpdate(&j.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, CheckSpec(&j.Spec, &old.Spec, path)...)
	faults = append(faults, checkSelector(&j.Spec, lenient, path)...)
	faults = append(faults, checkCompletionsChange(&j.Spec, &old.Spec, path)...)
	same := func(name string, now, before any) {
		faults = append(faults, validate.Immutable(now, before, path.Child(name))...)
	}
	same("selector", j.Spec.Selector, old.Spec.Selector)
	faults = append(faults, checkTemplateChange(j, old, path)...)
	same("completionMode", j.Spec.CompletionMode, old.Spec.CompletionMode)
	same("podFailurePolicy", j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy)
	same("backoffLimitPerIndex", j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex)
	same("managedBy", j.Spec.ManagedBy, old.Spec.ManagedBy)
	same("successPolicy", j.Spec.SuccessPolicy, old.Spec.SuccessPolicy)
	return append(faults, checkPodNames(j)...)
}

// checkCompletionsChange allows an indexed Job to be scaled, by changing completions and parallelism together.
func checkCompletionsChange(s, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	at := path.Child("completions")
	if !indexed(s) {
		return validate.Immutable(s.Completions, old.Completions, at)
	}
	now := s.Completions
	if now == nil || old.Completions != nil && *now == *old.Completions || int64(*now) == workload.Replicas(s.Parallelism) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, now, fmt.Sprintf("can only be modified in tandem with %s", at.Root().Child("parallelism").String()))}
}

// checkTemplateChange allows a suspended Job without Pods to change the placement and the resources of its
// Pods.
func checkTemplateChange(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	now, before := &j.Spec.Template, &old.Spec.Template
	at := path.Child("template")
	suspended := old.Spec.Suspend != nil && *old.Spec.Suspend
	if !suspended || old.Status.Active != 0 || old.Status.StartTime != nil && !holds(&old.Status, batchv1.JobSuspended) {
		return validate.Immutable(now, before, at)
	}
	before = before.DeepCopy()
	placeLike(before, now)
	resizeLike(before.Spec.Containers, now.Spec.Containers)
	resizeLike(before.Spec.InitContainers, now.Spec.InitContainers)
	return validate.Immutable(now.Spec, before.Spec, path.Child("template.spec"))
}

// placeLike copies the scheduling fields of another template.
func placeLike(t, other *corev1.PodTemplateSpec) {
	switch now := other.Spec.Affinity; {
	case now == nil && t.Spec.Affinity != nil:
		t.Spec.Affinity.NodeAffinity = nil
		if *t.Spec.Affinity == (corev1.Affinity{}) {
			t.Spec.Affinity = nil
		}
	case now != nil && t.Spec.Affinity == nil:
		t.Spec.Affinity = &corev1.Affinity{NodeAffinity: now.NodeAffinity}
	case now != nil:
		t.Spec.Affinity.NodeAffinity = now.NodeAffinity
	}
	t.Spec.NodeSelector = other.Spec.NodeSelector
	t.Spec.Tolerations = other.Spec.Tolerations
	t.Spec.SchedulingGates = other.Spec.SchedulingGates
	t.Annotations, t.Labels = maps.Clone(other.Annotations), maps.Clone(other.Labels)
}

// resizeLike copies the resources of the containers of the same names.
func resizeLike(list, others []corev1.Container) {
	if len(list) != len(others) {
		return
	}
	for i := range list {
		if list[i].Name == others[i].Name {
			list[i].Resources = others[i].Resources
		}
	}
}
