package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// event is one that a round records.
type event struct{ kind, reason, message string }

// round is one round over a CronJob. It decides on copies; the controller carries it out.
type round struct {
	c    *batchv1.CronJob // a copy; its status is the result
	jobs []*batchv1.Job   // those that it owns
	now  time.Time

	events []event
	// doubtful are Jobs in status.active that the cache does not show, forgotten those that run and that status.active does
	// not hold. The caches of the two kinds may be of different age: the API server must be asked about both.
	doubtful  []corev1.ObjectReference
	forgotten []*batchv1.Job
	replace   []corev1.ObjectReference // Jobs to delete, for another takes their place
	create    *batchv1.Job             // the Job to create
	at        time.Time                // the time of the schedule that it is for
	prune     []*batchv1.Job           // ended Jobs beyond the history limits
	again     time.Duration
}

func (r *round) tell(kind, reason, format string, args ...any) {
	r.events = append(r.events, event{kind, reason, fmt.Sprintf(format, args...)})
}

// end returns with which condition the Job ended, "" while it runs.
func end(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

func (r *round) isActive(uid types.UID) bool {
	return slices.ContainsFunc(r.c.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

// dropActive removes a Job from status.active.
func (r *round) dropActive(uid types.UID) {
	r.c.Status.Active = slices.DeleteFunc(slices.Clone(r.c.Status.Active), func(ref corev1.ObjectReference) bool { return ref.UID == uid })
	if len(r.c.Status.Active) == 0 {
		r.c.Status.Active = nil
	}
}

// review holds status.active against the Jobs that there are.
func (r *round) review() {
	known := map[types.UID]bool{}
	for _, j := range r.jobs {
		known[j.UID] = true
		how := end(j)
		switch {
		case how == "" && !r.isActive(j.UID):
			r.forgotten = append(r.forgotten, j)
		case how != "" && r.isActive(j.UID):
			r.dropActive(j.UID)
			r.tell(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, how)
		}
		if last := &r.c.Status.LastSuccessfulTime; how == batchv1.JobComplete && j.Status.CompletionTime != nil && (*last == nil || j.Status.CompletionTime.After((*last).Time)) {
			*last = j.Status.CompletionTime
		}
	}
	for _, ref := range r.c.Status.Active {
		if !known[ref.UID] {
			r.doubtful = append(r.doubtful, ref)
		}
	}
}

// unexpected records the events of the forgotten Jobs: the cache is up to date, and the controller did not create them.
func (r *round) unexpected() {
	for _, j := range r.forgotten {
		r.tell(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
	}
}

// missing drops a Job from status.active that the API server does not have.
func (r *round) missing(ref corev1.ObjectReference) {
	r.tell(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
	r.dropActive(ref.UID)
}

// start decides whether a Job is due, and when the next one is.
func (r *round) start() {
	c := r.c
	if c.DeletionTimestamp != nil {
		return
	}
	if c.Spec.TimeZone != nil {
		if _, err := time.LoadLocation(*c.Spec.TimeZone); err != nil {
			r.tell(corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *c.Spec.TimeZone, err)
			return
		}
	}
	if ptr.Deref(c.Spec.Suspend, false) {
		return
	}
	if namesZone(c) {
		r.tell(corev1.EventTypeWarning, "UnsupportedSchedule",
			"CRON_TZ or TZ used in schedule %q is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", c.Spec.Schedule)
	}
	s, err := parse(c)
	if err != nil {
		r.tell(corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", c.Spec.Schedule, err)
		return
	}
	m, err := look(c, s, r.now, true)
	if err != nil {
		r.tell(corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", c.Spec.Schedule, err)
		return
	}
	r.again = untilNext(c, s, r.now)
	if m.latest.IsZero() {
		return
	}
	if m.many {
		r.tell(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	r.due(m.latest)
	if r.create != nil {
		// The time is served from now on.
		served := c.DeepCopy()
		served.Status.LastScheduleTime = &metav1.Time{Time: m.latest}
		r.again = untilNext(served, s, r.now)
	}
}

// due decides about a time of the schedule that has come.
func (r *round) due(at time.Time) {
	c := r.c
	name := jobName(c, at)
	switch {
	case c.Spec.StartingDeadlineSeconds != nil && at.Add(time.Duration(*c.Spec.StartingDeadlineSeconds)*time.Second).Before(r.now):
		r.tell(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
		return
	case c.Status.LastScheduleTime.Equal(&metav1.Time{Time: at}),
		slices.ContainsFunc(c.Status.Active, func(ref corev1.ObjectReference) bool { return ref.Name == name }):
		return // served
	case c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(c.Status.Active) > 0:
		r.tell(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return
	case c.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		r.replace = slices.Clone(c.Status.Active)
	}
	r.create, r.at = newJob(c, name, at), at
}

// jobName returns the name of the Job for a time of the schedule. It is the same each time, so that no Job is created
// twice for one time; schedules are in minutes.
func jobName(c *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", c.Name, at.Unix()/60)
}

func newJob(c *batchv1.CronJob, name string, at time.Time) *batchv1.Job {
	t := c.Spec.JobTemplate.DeepCopy()
	zone, err := time.LoadLocation(ptr.Deref(c.Spec.TimeZone, ""))
	if err != nil {
		zone = time.UTC
	}
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.In(zone).Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: c.Namespace, Labels: t.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, kind)},
		},
		Spec: t.Spec,
	}
}

// trim finds the ended Jobs beyond the history limits, the oldest first.
func (r *round) trim() {
	for how, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: r.c.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: r.c.Spec.FailedJobsHistoryLimit,
	} {
		if limit == nil {
			continue
		}
		var ended []*batchv1.Job
		for _, j := range r.jobs {
			if end(j) == how && j.DeletionTimestamp == nil {
				ended = append(ended, j)
			}
		}
		slices.SortFunc(ended, olderFirst)
		r.prune = append(r.prune, ended[:max(0, len(ended)-int(*limit))]...)
	}
}

func olderFirst(a, b *batchv1.Job) int {
	x, y := a.Status.StartTime, b.Status.StartTime
	switch {
	case x != nil && y == nil:
		return -1
	case x == nil && y != nil:
		return 1
	case x == nil || x.Equal(y):
		return strings.Compare(a.Name, b.Name)
	}
	return cmp.Compare(x.UnixNano(), y.UnixNano())
}
