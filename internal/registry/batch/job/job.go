// Package job serves batch/v1 jobs. The rules for a Job's spec also serve cron jobs.
package job

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/registry/workload"
)

var parts = specstatus.Halves[*batchv1.Job, batchv1.JobSpec, batchv1.JobStatus]{
	Spec:       func(j *batchv1.Job) *batchv1.JobSpec { return &j.Spec },
	Status:     func(j *batchv1.Job) *batchv1.JobStatus { return &j.Status },
	Generation: true,
}

// Kind returns the kind Job.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*batchv1.Job]{
		GVK:          batchv1.SchemeGroupVersion.WithKind("Job"),
		Resource:     "jobs",
		UnknownField: func(label string) error { return fmt.Errorf("field label %q not supported for Job", label) },
		Singular:     "job",
		Categories:   []string{"all"},
		Namespaced:   true,
		New:          func() *batchv1.Job { return &batchv1.Job{} },
		NewList:      func() runtime.Object { return &batchv1.JobList{} },

		Default: setDefaults,
		Prepare: func(ctx context.Context, j *batchv1.Job) {
			if j.Spec.ManualSelector == nil || !*j.Spec.ManualSelector {
				generateSelector(j)
			}
			Prune(&j.Spec)
			parts.Prepare(ctx, j)
		},
		Validate: check,
		PrepareUpdate: func(ctx context.Context, j, old *batchv1.Job) {
			Prune(&j.Spec)
			parts.PrepareUpdate(ctx, j, old)
		},
		ValidateUpdate: checkUpdate,
		Warn: func(_ context.Context, j, old *batchv1.Job) (warnings []string) {
			if old == nil {
				warnings = workload.WarnName(j.Name)
			} else if j.Generation == old.Generation {
				return nil
			}
			return append(warnings, WarnSpec(&j.Spec, field.NewPath("spec"))...)
		},
		Status: &kit.SubresourceRules[*batchv1.Job]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		Wrap:            warnOfOrphans,
		OrphanByDefault: true,
		Selectable: func(j *batchv1.Job) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		},
		Table: table(),
	})
}

// defaultBackoffLimit is how often Pods are retried if the Job does not specify it.
const defaultBackoffLimit = int32(6)

func setDefaults(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = new(int32(1))
	}
	if s.Parallelism == nil {
		s.Parallelism = new(int32(1))
	}
	if s.BackoffLimit == nil {
		s.BackoffLimit = new(defaultBackoffLimit)
		if s.BackoffLimitPerIndex != nil {
			s.BackoffLimit = new(int32(math.MaxInt32))
		}
	}
	if len(j.Labels) == 0 && s.Template.Labels != nil {
		j.Labels = s.Template.Labels
	}
	if s.CompletionMode == nil {
		s.CompletionMode = new(batchv1.NonIndexedCompletion)
	}
	if s.Suspend == nil {
		s.Suspend = new(false)
	}
	if s.PodReplacementPolicy == nil {
		s.PodReplacementPolicy = new(batchv1.TerminatingOrFailed)
		if s.PodFailurePolicy != nil {
			s.PodReplacementPolicy = new(batchv1.Failed)
		}
	}
	if s.ManualSelector == nil {
		s.ManualSelector = new(false)
	}
	DefaultTemplate(s)
}

// DefaultTemplate sets the defaults in the spec of a Job or of a Job template: those of its Pod template and of
// its failure policy.
func DefaultTemplate(s *batchv1.JobSpec) {
	podspec.DefaultTemplate(&s.Template)
	if s.PodFailurePolicy == nil {
		return
	}
	for _, rule := range s.PodFailurePolicy.Rules {
		for i := range rule.OnPodConditions {
			if rule.OnPodConditions[i].Status == "" {
				rule.OnPodConditions[i].Status = corev1.ConditionTrue
			}
		}
	}
}

// Prune clears the fields of feature gates that are off by default.
func Prune(s *batchv1.JobSpec) {
	s.Scheduling = nil
	podspec.PruneTemplate(&s.Template)
}

// generateSelector labels the Pods with the Job's name and UID, under the old and the new label names, and
// selects them by the UID.
func generateSelector(j *batchv1.Job) {
	s := &j.Spec
	if s.Template.Labels == nil {
		s.Template.Labels = map[string]string{}
	}
	for label, value := range ownLabels(j) {
		if _, ok := s.Template.Labels[label]; !ok {
			s.Template.Labels[label] = value
		}
	}
	if s.Selector == nil {
		s.Selector = &metav1.LabelSelector{}
	}
	if s.Selector.MatchLabels == nil {
		s.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := s.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		s.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}

// legacyUIDLabel and legacyNameLabel are labels of a Job's Pods without a domain.
const (
	legacyUIDLabel  = "controller-uid"
	legacyNameLabel = "job-name"
)

// ownLabels returns the labels that the Pods of a Job have.
func ownLabels(j *batchv1.Job) map[string]string {
	return map[string]string{
		legacyUIDLabel:             string(j.UID),
		legacyNameLabel:            j.Name,
		batchv1.ControllerUidLabel: string(j.UID),
		batchv1.JobNameLabel:       j.Name,
	}
}

// WarnSpec returns warnings about the spec of a Job at path.
func WarnSpec(s *batchv1.JobSpec, path *field.Path) (warnings []string) {
	if indexed(s) && workload.Replicas(s.Completions) > manyCompletions && workload.Replicas(s.Parallelism) > highParallelism {
		warnings = append(warnings, fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path))
	}
	return append(warnings, podspec.WarnTemplate(&s.Template, path.Child("template"))...)
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

func table() *kit.Table[*batchv1.Job] {
	columns := append([]column.Definition{
		column.Name(),
		column.Text("Status", "Status of the job."),
		column.Text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		column.Text("Duration", "Time required to complete the job."),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*batchv1.Job]{
		Columns: append(columns, column.Wide(column.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"]))),
		Row: func(j *batchv1.Job) ([]any, []metav1.TableRowCondition) {
			names, images := workload.Containers(j.Spec.Template.Spec.Containers)
			return []any{
				j.Name, state(j), completions(j), took(&j.Status), column.Since(j.CreationTimestamp),
				names, images, metav1.FormatLabelSelector(j.Spec.Selector),
			}, nil
		},
	}
}

// state returns the most significant of the Job's conditions.
func state(j *batchv1.Job) string {
	for _, c := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if holds(&j.Status, c) {
			return string(c)
		}
	}
	if j.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, c := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if holds(&j.Status, c) {
			return string(c)
		}
	}
	return "Running"
}

// holds reports whether the first condition of the type is true.
func holds(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func completions(j *batchv1.Job) string {
	if n := j.Spec.Completions; n != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *n)
	}
	if n := workload.Replicas(j.Spec.Parallelism); n > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

// took returns how long the Job has run.
func took(s *batchv1.JobStatus) string {
	switch {
	case s.StartTime == nil:
		return ""
	case s.CompletionTime == nil:
		return duration.HumanDuration(time.Since(s.StartTime.Time))
	}
	return duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
}
