package cronjob

import (
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/robfig/cron/v3"
)

// parse reads the schedule of a CronJob, in its time zone if it names one. The library panics on some texts.
func parse(c *batchv1.CronJob) (s cron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("invalid schedule: %v", p)
		}
	}()
	text := c.Spec.Schedule
	if c.Spec.TimeZone != nil && !namesZone(c) {
		text = "TZ=" + *c.Spec.TimeZone + " " + text
	}
	return cron.ParseStandard(text)
}

// namesZone reports whether the schedule's text holds a time zone, which old CronJobs may have.
func namesZone(c *batchv1.CronJob) bool { return strings.Contains(c.Spec.Schedule, "TZ") }

// errNoTimes is returned for a schedule such as the 31st of February, which has no times.
var errNoTimes = errors.New("time difference between two schedules is less than 1 second")

// missed is what a look at a schedule finds.
type missed struct {
	since  time.Time // the last time that was served, or the creation
	latest time.Time // the latest time that was not served and is not in the future; zero when there is none
	many   bool      // more than 100 were missed
	any    bool
}

// look finds the latest time of the schedule that has not been served. With `bounded` set, times older than the starting
// deadline do not count. It takes few steps however many times were missed: between the first missed time and now it jumps
// by the distance of two times, and counts only from there.
func look(c *batchv1.CronJob, s cron.Schedule, now time.Time, bounded bool) (missed, error) {
	m := missed{since: c.CreationTimestamp.Time}
	if c.Status.LastScheduleTime != nil {
		m.since = c.Status.LastScheduleTime.Time
	}
	if d := c.Spec.StartingDeadlineSeconds; bounded && d != nil {
		if from := now.Add(-time.Duration(*d) * time.Second); from.After(m.since) {
			m.since = from
		}
	}
	first := s.Next(m.since)
	second := s.Next(first)
	if first.IsZero() {
		return m, errNoTimes
	}
	if now.Before(first) {
		return m, nil
	}
	if !second.IsZero() && now.Before(second) {
		m.latest = first
		return m, nil
	}
	gap := second.Sub(first).Round(time.Second)
	if gap < time.Second {
		return m, errNoTimes
	}
	n := int64(now.Sub(first)/gap) + 1
	m.any, m.many = true, n > 100
	for t := s.Next(first.Add(time.Duration(n-2) * gap)); !t.IsZero() && !t.After(now); t = s.Next(t) {
		m.latest = t
	}
	return m, nil
}

// padding is added to the time of the next look, so that a clock that is set back a little does not make it too early.
const padding = 100 * time.Millisecond

// untilNext returns the time until the schedule's next time.
func untilNext(c *batchv1.CronJob, s cron.Schedule, now time.Time) time.Duration {
	from := now
	if m, err := look(c, s, now, false); err == nil {
		switch {
		case !m.latest.IsZero():
			from = m.latest
		case !m.any:
			from = m.since
		}
	}
	next := s.Next(from)
	if next.IsZero() {
		return 0
	}
	return max(next.Add(padding).Sub(now), padding)
}
