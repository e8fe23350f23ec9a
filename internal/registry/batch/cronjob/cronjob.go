// Package cronjob serves batch/v1 cronjobs.
package cronjob

import (
	"context"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/batch/job"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/workload"
)

var parts = specstatus.Halves[*batchv1.CronJob, batchv1.CronJobSpec, batchv1.CronJobStatus]{
	Spec:       func(c *batchv1.CronJob) *batchv1.CronJobSpec { return &c.Spec },
	Status:     func(c *batchv1.CronJob) *batchv1.CronJobStatus { return &c.Status },
	Generation: true,
}

// Kind returns the kind CronJob.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*batchv1.CronJob]{
		GVK:        batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Resource:   "cronjobs",
		Singular:   "cronjob",
		ShortNames: []string{"cj"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *batchv1.CronJob { return &batchv1.CronJob{} },
		NewList:    func() runtime.Object { return &batchv1.CronJobList{} },

		Default: setDefaults,
		Prepare: func(ctx context.Context, c *batchv1.CronJob) {
			job.Prune(&c.Spec.JobTemplate.Spec)
			parts.Prepare(ctx, c)
		},
		Validate: check,
		PrepareUpdate: func(ctx context.Context, c, old *batchv1.CronJob) {
			job.Prune(&c.Spec.JobTemplate.Spec)
			parts.PrepareUpdate(ctx, c, old)
		},
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status:         &kit.SubresourceRules[*batchv1.CronJob]{PrepareUpdate: parts.PrepareStatusUpdate},
		Table:          table(),
	})
}

// How many finished Jobs are kept if the CronJob does not specify it.
const (
	defaultSuccessfulHistory = int32(3)
	defaultFailedHistory     = int32(1)
)

func setDefaults(c *batchv1.CronJob) {
	s := &c.Spec
	if s.ConcurrencyPolicy == "" {
		s.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if s.Suspend == nil {
		s.Suspend = new(false)
	}
	if s.SuccessfulJobsHistoryLimit == nil {
		s.SuccessfulJobsHistoryLimit = new(defaultSuccessfulHistory)
	}
	if s.FailedJobsHistoryLimit == nil {
		s.FailedJobsHistoryLimit = new(defaultFailedHistory)
	}
	job.DefaultTemplate(&s.JobTemplate.Spec)
}

func warn(_ context.Context, c, old *batchv1.CronJob) (warnings []string) {
	if old == nil {
		warnings = workload.WarnName(c.Name)
	}
	if old == nil || c.Generation != old.Generation {
		warnings = append(warnings, job.WarnSpec(&c.Spec.JobTemplate.Spec, field.NewPath("spec", "jobTemplate", "spec"))...)
	}
	if old != nil && strings.Contains(c.Spec.Schedule, "TZ") {
		warnings = append(warnings, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return warnings
}

func table() *kit.Table[*batchv1.CronJob] {
	wanted, there := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	columns := append([]column.Definition{
		column.Name(),
		column.Text("Schedule", wanted["schedule"]),
		column.Text("Timezone", wanted["timeZone"]),
		column.Boolean("Suspend", wanted["suspend"]),
		column.Integer("Active", there["active"]),
		column.Text("Last Schedule", there["lastScheduleTime"]),
		column.Age(),
	}, workload.ContainerColumns()...)
	return &kit.Table[*batchv1.CronJob]{
		Columns: append(columns, column.Wide(column.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"]))),
		Row:     row,
	}
}

func row(c *batchv1.CronJob) ([]any, []metav1.TableRowCondition) {
	last, zone, suspended := column.None, column.None, column.Unset
	if t := c.Status.LastScheduleTime; t != nil {
		last = column.Since(*t)
	}
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	if s := c.Spec.Suspend; s != nil {
		if suspended = "False"; *s {
			suspended = "True"
		}
	}
	template := &c.Spec.JobTemplate.Spec
	names, images := workload.Containers(template.Template.Spec.Containers)
	return []any{
		c.Name, c.Spec.Schedule, zone, suspended, int64(len(c.Status.Active)), last, column.Since(c.CreationTimestamp),
		names, images, metav1.FormatLabelSelector(template.Selector),
	}, nil
}
