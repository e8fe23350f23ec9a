package job

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/workload"
)

var status = field.NewPath("status")

func checkStatusUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	s := &j.Status
	faults := validate.MetaUpdate(&j.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, workload.NonNegative(status,
		workload.Number("active", s.Active),
		workload.Number("succeeded", s.Succeeded),
		workload.Number("failed", s.Failed),
		workload.Optional("ready", s.Ready),
		workload.Optional("terminating", s.Terminating),
	)...)
	faults = append(faults, checkUncounted(s.UncountedTerminatedPods)...)
	faults = append(faults, checkEnd(j, old)...)
	faults = append(faults, checkIndexes(j, &old.Status)...)
	faults = append(faults, checkAlways(j)...)
	return append(faults, checkProgress(j, old)...)
}

func checkUncounted(pods *batchv1.UncountedTerminatedPods) (faults field.ErrorList) {
	if pods == nil {
		return nil
	}
	seen := sets.New[types.UID]()
	list := func(name string, uids []types.UID) {
		for i, uid := range uids {
			at := status.Child("uncountedTerminatedPods", name).Index(i)
			switch {
			case uid == "":
				faults = append(faults, field.Invalid(at, uid, "must not be empty"))
			case seen.Has(uid):
				faults = append(faults, field.Duplicate(at, uid))
			}
			seen.Insert(uid)
		}
	}
	list("succeeded", pods.Succeeded)
	list("failed", pods.Failed)
	return faults
}

func finished(s *batchv1.JobStatus) bool {
	return holds(s, batchv1.JobComplete) || holds(s, batchv1.JobFailed)
}

// checkEnd checks rules about finished Jobs. An invalid stored status is accepted until the invalid part
// changes.
func checkEnd(j, old *batchv1.Job) (faults field.ErrorList) {
	s, o := &j.Status, &old.Status
	moved := func(t batchv1.JobConditionType) bool { return holds(s, t) != holds(o, t) }
	complete, failed := holds(s, batchv1.JobComplete), holds(s, batchv1.JobFailed)
	completed, ended := moved(batchv1.JobComplete), finished(s) != finished(o)
	started, done := !s.StartTime.Equal(o.StartTime), !s.CompletionTime.Equal(o.CompletionTime)
	conditions, at := status.Child("conditions"), status.Child("completionTime")

	refuse := func(changed, wrong bool, fault *field.Error) {
		if changed && wrong {
			faults = append(faults, fault)
		}
	}
	contradict := func(changed, wrong bool, words string) {
		refuse(changed, wrong, field.Invalid(conditions, field.OmitValueType{}, words))
	}
	contradict(completed || moved(batchv1.JobFailed), complete && failed, "cannot set Complete=True and Failed=true conditions")
	contradict(completed || moved(batchv1.JobFailureTarget), complete && holds(s, batchv1.JobFailureTarget), "cannot set Complete=True and FailureTarget=true conditions")
	refuse(completed || done, s.CompletionTime != nil && !complete, field.Invalid(at, s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	refuse(completed || done, s.CompletionTime == nil && complete, field.Required(at, "completionTime is required for Complete jobs"))
	refuse(started || done, s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime), field.Invalid(at, s.CompletionTime, "must be equal to or after `startTime`"))
	contradict(moved(batchv1.JobFailed) || !samePointer(s.FailedIndexes, o.FailedIndexes), failed && !holds(s, batchv1.JobFailureTarget), "cannot set Failed=True condition without the FailureTarget=true condition")
	contradict(completed || moved(batchv1.JobSuccessCriteriaMet), complete && !holds(s, batchv1.JobSuccessCriteriaMet), "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	refuse(ended || s.Active != o.Active, s.Active > 0 && finished(s), field.Invalid(status.Child("active"), s.Active, "active>0 is invalid for finished job"))
	idle := j.Spec.Suspend != nil && *j.Spec.Suspend && j.Spec.Completions != nil && *j.Spec.Completions == 0
	refuse((ended || started) && !idle, s.StartTime == nil && finished(s), field.Required(status.Child("startTime"), "startTime is required for finished job"))
	left := s.UncountedTerminatedPods
	refuse(ended || !apiequality.Semantic.DeepEqual(left, o.UncountedTerminatedPods), finished(s) && left != nil && len(left.Failed)+len(left.Succeeded) > 0,
		field.Invalid(status.Child("uncountedTerminatedPods"), validate.Shown(left), "must be empty for finished job"))
	return faults
}

// checkIndexes validates the lists of completed and failed indexes if they changed.
func checkIndexes(j *batchv1.Job, old *batchv1.JobStatus) (faults field.ErrorList) {
	s, n := &j.Status, j.Spec.Completions
	done, failed := s.CompletedIndexes != old.CompletedIndexes, !samePointer(s.FailedIndexes, old.FailedIndexes)
	atDone, atFailed := status.Child("completedIndexes"), status.Child("failedIndexes")
	if done && n != nil {
		if _, err := parseIndexes(s.CompletedIndexes, *n); err != nil {
			faults = append(faults, field.Invalid(atDone, s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %s", err)))
		}
	}
	if failed && n != nil && j.Spec.BackoffLimitPerIndex != nil && s.FailedIndexes != nil {
		if _, err := parseIndexes(*s.FailedIndexes, *n); err != nil {
			faults = append(faults, field.Invalid(atFailed, s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %s", err)))
		}
	}
	if done && s.CompletedIndexes != "" && !indexed(&j.Spec) {
		faults = append(faults, field.Invalid(atDone, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if failed && s.FailedIndexes != nil && j.Spec.BackoffLimitPerIndex == nil {
		faults = append(faults, field.Invalid(atFailed, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if (done || failed) && n != nil && s.FailedIndexes != nil {
		if index, both := overlap(s.CompletedIndexes, *s.FailedIndexes, *n); both {
			faults = append(faults, field.Invalid(atFailed, *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", index)))
		}
	}
	return faults
}

// overlap returns the first index that is in both lists. Lists that cannot be parsed do not overlap.
func overlap(a, b string, completions int32) (int32, bool) {
	left, err := parseIndexes(a, completions)
	if err != nil {
		return 0, false
	}
	right, err := parseIndexes(b, completions)
	if err != nil {
		return 0, false
	}
	for len(left) > 0 && len(right) > 0 {
		l, r := left[0], right[0]
		switch {
		case l.first <= r.last && r.first <= l.last:
			return max(l.first, r.first), true
		case l.first <= r.first:
			left = left[1:]
		default:
			right = right[1:]
		}
	}
	return 0, false
}

// checkAlways checks rules that hold for every status, changed or not.
func checkAlways(j *batchv1.Job) (faults field.ErrorList) {
	s := &j.Status
	if s.Terminating != nil && *s.Terminating > 0 && finished(s) {
		faults = append(faults, field.Invalid(status.Child("terminating"), s.Terminating, "terminating>0 is invalid for finished job"))
	}
	if s.Ready != nil && *s.Ready > s.Active {
		faults = append(faults, field.Invalid(status.Child("ready"), *s.Ready, "cannot set more ready pods than active"))
	}
	met := holds(s, batchv1.JobSuccessCriteriaMet)
	for _, c := range []struct {
		wrong bool
		words string
	}{
		{met && holds(s, batchv1.JobFailed), "cannot set SuccessCriteriaMet=True and Failed=true conditions"},
		{met && holds(s, batchv1.JobFailureTarget), "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"},
		{!met && j.Spec.SuccessPolicy != nil && holds(s, batchv1.JobComplete), "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"},
	} {
		if c.wrong {
			faults = append(faults, field.Invalid(status.Child("conditions"), field.OmitValueType{}, c.words))
		}
	}
	return faults
}

// checkProgress requires that a Job only moves forward.
func checkProgress(j, old *batchv1.Job) (faults field.ErrorList) {
	s, o := &j.Status, &old.Status
	conditions := status.Child("conditions")
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if holds(o, t) && !holds(s, t) {
			faults = append(faults, field.Invalid(conditions, field.OmitValueType{}, fmt.Sprintf("cannot disable the terminal %s=True condition", t)))
		}
	}
	if s.Failed < o.Failed {
		faults = append(faults, field.Invalid(status.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	// An indexed Job that is scaled down drops the results of the removed indexes.
	elastic := indexed(&j.Spec) && samePointer(j.Spec.Completions, j.Spec.Parallelism)
	if s.Succeeded < o.Succeeded && !elastic {
		faults = append(faults, field.Invalid(status.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if s.CompletionTime != nil && o.CompletionTime != nil && !s.CompletionTime.Equal(o.CompletionTime) {
		faults = append(faults, field.Invalid(status.Child("completionTime"), s.CompletionTime, "field is immutable"))
	}
	suspended := j.Spec.Suspend != nil && *j.Spec.Suspend
	if o.StartTime != nil && !o.StartTime.Equal(s.StartTime) && !suspended && !resumes(s, o) {
		faults = append(faults, field.Invalid(status.Child("startTime"), s.StartTime, "field is immutable for unsuspended job once set"))
	}
	const met = batchv1.JobSuccessCriteriaMet
	if holds(o, met) && !holds(s, met) {
		faults = append(faults, field.Invalid(conditions, field.OmitValueType{}, "cannot disable the SuccessCriteriaMet=True condition"))
	}
	if holds(o, batchv1.JobComplete) && !holds(o, met) && holds(s, met) {
		faults = append(faults, field.Invalid(conditions, field.OmitValueType{}, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"))
	}
	return faults
}

// resumes reports whether the Job was suspended and no longer is.
func resumes(s, old *batchv1.JobStatus) bool {
	if !holds(old, batchv1.JobSuspended) {
		return false
	}
	for _, c := range s.Conditions {
		if c.Type == batchv1.JobSuspended && string(c.Status) == string(metav1.ConditionFalse) {
			return true
		}
	}
	return false
}

func samePointer[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
