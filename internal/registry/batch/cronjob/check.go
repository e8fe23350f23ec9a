package cronjob

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/batch/job"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/workload"
)

// maxName leaves room for the time that is appended to the names of the Jobs.
const maxName = 52

func check(_ context.Context, c *batchv1.CronJob) field.ErrorList {
	faults := validate.Meta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, checkSpec(&c.Spec, nil, field.NewPath("spec"))...)
	if len(c.Name) > maxName {
		faults = append(faults, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxName)))
	}
	return validate.InOrder(faults)
}

func checkUpdate(_ context.Context, c, old *batchv1.CronJob) field.ErrorList {
	return validate.InOrder(
		validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta),
		checkSpec(&c.Spec, &old.Spec, field.NewPath("spec")),
	)
}

// checkSpec validates a spec. old is the stored one, or nil.
func checkSpec(s, old *batchv1.CronJobSpec, path *field.Path) (faults field.ErrorList) {
	faults = append(faults, checkSchedule(s, old, path.Child("schedule"))...)
	faults = append(faults, workload.NonNegative(path, workload.Optional("startingDeadlineSeconds", s.StartingDeadlineSeconds))...)
	if zone := s.TimeZone; zone != nil && (old == nil || old.TimeZone == nil || *old.TimeZone != *zone) {
		faults = append(faults, checkZone(zone, path.Child("timeZone"))...)
	}
	faults = append(faults, checkConcurrency(s.ConcurrencyPolicy, path.Child("concurrencyPolicy"))...)
	faults = append(faults, checkTemplate(s, old, path.Child("jobTemplate", "spec"))...)
	return append(faults, workload.NonNegative(path,
		workload.Optional("successfulJobsHistoryLimit", s.SuccessfulJobsHistoryLimit),
		workload.Optional("failedJobsHistoryLimit", s.FailedJobsHistoryLimit),
	)...)
}

func checkSchedule(s, old *batchv1.CronJobSpec, path *field.Path) (faults field.ErrorList) {
	if s.Schedule == "" {
		return field.ErrorList{validate.Missing(path)}
	}
	if err := parse(s.Schedule); err != nil {
		faults = append(faults, field.Invalid(path, s.Schedule, err.Error()))
	}
	had := old != nil && strings.Contains(old.Schedule, "TZ")
	switch has := strings.Contains(s.Schedule, "TZ"); {
	case has && had && s.TimeZone != nil:
		faults = append(faults, field.Invalid(path, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	case has && !had:
		faults = append(faults, field.Invalid(path, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	}
	return faults
}

// parse returns an error for an invalid schedule. The parser panics on some truncated ones ("TZ=").
func parse(schedule string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	_, err = cron.ParseStandard(schedule)
	return err
}

var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

// checkZone requires the name of a time zone that cannot refer to any other file.
func checkZone(zone *string, path *field.Path) (faults field.ErrorList) {
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	for _, part := range strings.Split(*zone, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, zone, fmt.Sprintf("unknown time zone %s", *zone))}
		}
	}
	if strings.EqualFold(*zone, "Local") {
		faults = append(faults, field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		faults = append(faults, field.Invalid(path, zone, err.Error()))
	}
	return faults
}

func checkConcurrency(policy batchv1.ConcurrencyPolicy, path *field.Path) field.ErrorList {
	switch policy {
	case batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, policy, []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent})}
}

// checkTemplate validates the Job template. Its Jobs get generated selectors.
func checkTemplate(s, old *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var before *batchv1.JobSpec
	if old != nil {
		before = &old.JobTemplate.Spec
	}
	template := &s.JobTemplate.Spec
	faults := job.CheckSpec(template, before, path)
	if template.Selector != nil {
		faults = append(faults, field.Invalid(path.Child("selector"), template.Selector, "`selector` will be auto-generated"))
	}
	if template.ManualSelector != nil && *template.ManualSelector {
		faults = append(faults, field.NotSupported(path.Child("manualSelector"), template.ManualSelector, []string{"nil", "false"}))
	}
	return faults
}
