package cronjob

import (
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func newCron(schedule string, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "ns", UID: "c", CreationTimestamp: metav1.NewTime(noon)},
		Spec:       batchv1.CronJobSpec{Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func lastAt(t time.Time) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.LastScheduleTime = ptr.To(metav1.NewTime(t)) }
}

func deadline(seconds int64) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &seconds }
}

func zone(name string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.TimeZone = &name }
}

func running(policy batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		c.Spec.ConcurrencyPolicy = policy
		c.Status.Active = []corev1.ObjectReference{{Name: "tick-1", UID: "j1"}}
	}
}

func TestStart(t *testing.T) {
	for name, tt := range map[string]struct {
		cron   *batchv1.CronJob
		now    time.Time
		job    string // "" for none
		again  time.Duration
		reason string
	}{
		"not due":                       {newCron("*/5 * * * *"), noon.Add(time.Minute), "", 4*time.Minute + padding, ""},
		"due":                           {newCron("*/5 * * * *"), noon.Add(5*time.Minute + time.Second), "tick-29552405", 4*time.Minute + 59*time.Second + padding, ""},
		"served":                        {newCron("*/5 * * * *", lastAt(noon.Add(5*time.Minute))), noon.Add(6 * time.Minute), "", 4*time.Minute + padding, ""},
		"after a long stop":             {newCron("* * * * *", lastAt(noon)), noon.Add(50 * time.Hour), "tick-29555400", time.Minute + padding, "TooManyMissedTimes"},
		"a stop within the deadline":    {newCron("0 * * * *", lastAt(noon), deadline(600)), noon.Add(65 * time.Minute), "tick-29552460", 55*time.Minute + padding, ""},
		"a stop beyond the deadline":    {newCron("0 * * * *", lastAt(noon), deadline(60)), noon.Add(65 * time.Minute), "", 55*time.Minute + padding, ""},
		"every":                         {newCron("@every 90s"), noon.Add(91 * time.Second), "tick-29552401", 89*time.Second + padding, ""},
		"hourly":                        {newCron("@hourly"), noon.Add(time.Hour), "tick-29552460", time.Hour + padding, ""},
		"in a time zone":                {newCron("0 9 * * *", zone("America/New_York")), noon.Add(time.Hour), "tick-29552460", 24*time.Hour + padding, ""},
		"in no time zone":               {newCron("0 9 * * *", zone("Moon/Sea")), noon.Add(time.Hour), "", 0, "UnknownTimeZone"},
		"no such day":                   {newCron("0 0 31 2 *"), noon.Add(time.Hour), "", 0, "InvalidSchedule"},
		"no schedule":                   {newCron("every now and then"), noon.Add(time.Hour), "", 0, "UnparseableSchedule"},
		"a text that breaks the parser": {newCron("TZ=0"), noon.Add(time.Hour), "", 0, "UnsupportedSchedule"},
		"suspended":                     {newCron("* * * * *", func(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(true) }), noon.Add(time.Hour), "", 0, ""},
		"another runs and may":          {newCron("* * * * *", running(batchv1.AllowConcurrent)), noon.Add(time.Minute), "tick-29552401", time.Minute + padding, ""},
		"another runs and must not":     {newCron("* * * * *", running(batchv1.ForbidConcurrent)), noon.Add(time.Minute), "", time.Minute + padding, "JobAlreadyActive"},
		"another runs and is replaced":  {newCron("* * * * *", running(batchv1.ReplaceConcurrent)), noon.Add(time.Minute), "tick-29552401", time.Minute + padding, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &round{c: tt.cron, now: tt.now}
			r.start()
			got := ""
			if r.create != nil {
				got = r.create.Name
			}
			reason := ""
			if len(r.events) > 0 {
				reason = r.events[0].reason
			}
			if got != tt.job || r.again != tt.again || reason != tt.reason {
				t.Errorf("job %q, again after %v, event %q; want %q, %v, %q", got, r.again, reason, tt.job, tt.again, tt.reason)
			}
			if replaces := len(r.replace) > 0; replaces != (tt.cron.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent) {
				t.Errorf("replaces %v", r.replace)
			}
		})
	}
}

func newJobOf(name string, how batchv1.JobConditionType, started time.Time) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Status: batchv1.JobStatus{StartTime: ptr.To(metav1.NewTime(started))}}
	if how != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}
		j.Status.CompletionTime = ptr.To(metav1.NewTime(started.Add(time.Second)))
	}
	return j
}

func TestReviewAndTrim(t *testing.T) {
	c := newCron("* * * * *")
	c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = ptr.To[int32](1), ptr.To[int32](0)
	c.Status.Active = []corev1.ObjectReference{{Name: "done", UID: "done"}, {Name: "unseen", UID: "unseen"}}
	r := &round{c: c, now: noon, jobs: []*batchv1.Job{
		newJobOf("done", batchv1.JobComplete, noon.Add(time.Minute)), newJobOf("older", batchv1.JobComplete, noon), newJobOf("failed", batchv1.JobFailed, noon),
		newJobOf("strange", "", noon),
	}}
	r.review()
	r.trim()
	if len(c.Status.Active) != 1 || len(r.doubtful) != 1 || r.doubtful[0].Name != "unseen" {
		t.Errorf("active %v, doubtful %v", c.Status.Active, r.doubtful)
	}
	if len(r.forgotten) != 1 || r.forgotten[0].Name != "strange" {
		t.Errorf("forgotten %v", r.forgotten)
	}
	if c.Status.LastSuccessfulTime == nil || !c.Status.LastSuccessfulTime.Time.Equal(noon.Add(61*time.Second)) {
		t.Errorf("last success %v", c.Status.LastSuccessfulTime)
	}
	var pruned []string
	for _, j := range r.prune {
		pruned = append(pruned, j.Name)
	}
	slices.Sort(pruned)
	if strings.Join(pruned, " ") != "failed older" {
		t.Errorf("pruned %v", pruned)
	}
}
