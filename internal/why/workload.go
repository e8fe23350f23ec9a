package why

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/podutil"
)

// workload is what an explanation needs to know of an object that makes Pods, whatever its kind.
type workload struct {
	// wanted is how many Pods it wants to have at present, or -1 if that is not known.
	wanted int
	// findings are what its own fields, conditions and events say.
	findings []Finding
	// verdict replaces the verdict that counts Pods, if it is not empty.
	verdict string
}

// describe returns what an owner says of itself.
func describe(f *Facts) workload {
	o := f.Owner
	out := workload{wanted: -1}
	if n, known, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); known {
		out.wanted = int(n)
	}
	switch o.GetKind() {
	case "Deployment":
		out.findings = told(f, deployment)
	case "StatefulSet":
		out.findings = told(f, statefulSet)
	case "DaemonSet":
		out.wanted, out.findings = daemonSet(f)
	case "Job":
		out = job(f)
	case "CronJob":
		out = cronJob(f)
	case "PodDisruptionBudget":
		out = budget(f)
	case "HorizontalPodAutoscaler":
		out = autoscaler(f)
	}
	if seen, known, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); known && seen < o.GetGeneration() {
		out.findings = append(out.findings, Finding{
			About: AboutRollout, Reason: "NotObserved",
			Message: fmt.Sprintf("its controller has not seen the last change yet: generation %d, observed %d", o.GetGeneration(), seen),
		})
	}
	return out
}

// told converts the owner to its own type and returns what a function finds in it. An owner of an unknown shape has no findings.
func told[T any](f *Facts, find func(*Facts, *T) []Finding) []Finding {
	var o T
	if runtime.DefaultUnstructuredConverter.FromUnstructured(f.Owner.Object, &o) != nil {
		return nil
	}
	return find(f, &o)
}

func deployment(f *Facts, d *appsv1.Deployment) []Finding {
	var out []Finding
	if d.Spec.Paused {
		out = append(out, Finding{
			About: AboutRollout, Reason: "DeploymentPaused", Message: "it is paused: changes of its Pod template are not rolled out",
			Fix: fmt.Sprintf("kubectl rollout resume deployment/%s -n %s", d.Name, d.Namespace),
		})
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" {
			out = append(out, Finding{
				About: AboutRollout, Reason: c.Reason, Message: c.Message, Since: since(c.LastUpdateTime),
				Fix: fmt.Sprintf("correct what its Pods below wait for, or go back with kubectl rollout undo deployment/%s -n %s", d.Name, d.Namespace),
			})
		}
	}
	out = append(out, settling(f, d.Spec.MinReadySeconds)...)
	if old := int(d.Status.Replicas - d.Status.UpdatedReplicas); old > 0 && !d.Spec.Paused {
		out = append(out, Finding{
			About: AboutRollout, Reason: "RollingUpdate",
			Message: fmt.Sprintf("a roll-out is under way: %d of %d Pods have the present template, %s of an older one", d.Status.UpdatedReplicas, ptr.Deref(d.Spec.Replicas, 1),
				plural(old, "is", "are")),
		})
	}
	return out
}

// settling returns a finding about Pods that are ready, but not for long enough to count as available.
func settling(f *Facts, seconds int32) []Finding {
	least := time.Duration(seconds) * time.Second
	n, last := 0, time.Time{}
	for _, pod := range f.Pods {
		if c := podutil.Condition(pod.Pod, corev1.PodReady); least > 0 && podutil.IsReady(pod.Pod) {
			if due := c.LastTransitionTime.Add(least); due.After(f.Now) {
				n, last = n+1, later(last, due)
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []Finding{{
		About: AboutRollout, Reason: "MinReadySeconds", Next: next(last),
		Message: fmt.Sprintf("%s ready, and available after spec.minReadySeconds (%d s)", plural(n, "Pod is", "Pods are"), seconds),
	}}
}

func statefulSet(f *Facts, s *appsv1.StatefulSet) []Finding {
	var out []Finding
	if s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		out = append(out, turn(f, s)...)
	}
	behind := int(s.Status.Replicas - s.Status.UpdatedReplicas)
	rolling := s.Spec.UpdateStrategy.RollingUpdate
	switch {
	case s.Status.CurrentRevision == s.Status.UpdateRevision || behind <= 0:
	case s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		out = append(out, onDelete(behind, "StatefulSet"))
	case rolling != nil && ptr.Deref(rolling.Partition, 0) > 0 && behind <= int(*rolling.Partition):
		out = append(out, Finding{
			About: AboutRollout, Reason: "Partition",
			Message: fmt.Sprintf("%s an older template: only ordinals from %d on are updated", plural(behind, "Pod has", "Pods have"), *rolling.Partition),
			Fix:     "lower spec.updateStrategy.rollingUpdate.partition",
		})
	}
	return append(out, settling(f, s.Spec.MinReadySeconds)...)
}

// turn returns a finding about the Pod of a StatefulSet that all later ones wait for: the one with the lowest ordinal that is not
// ready.
func turn(f *Facts, s *appsv1.StatefulSet) []Finding {
	if len(f.Pods) >= int(ptr.Deref(s.Spec.Replicas, 1)) {
		return nil
	}
	pods := slices.Clone(f.Pods)
	slices.SortFunc(pods, func(a, b *Facts) int { return cmp.Compare(ordinal(a.Name), ordinal(b.Name)) })
	for _, pod := range pods {
		if !podutil.IsReady(pod.Pod) || pod.Pod.DeletionTimestamp != nil {
			return []Finding{{
				About: AboutRollout, Object: pod.Name, Reason: "OrderedReady",
				Message: fmt.Sprintf("Pod %s is not ready, and Pods are made one after the other (spec.podManagementPolicy: OrderedReady)", pod.Name),
			}}
		}
	}
	return nil
}

func ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}

func onDelete(behind int, kind string) Finding {
	return Finding{
		About: AboutRollout, Reason: "OnDelete",
		Message: fmt.Sprintf("%s an older template, and this %s updates a Pod only when it is deleted (spec.updateStrategy: OnDelete)", plural(behind, "Pod has", "Pods have"), kind),
		Fix:     "delete the Pods, one after the other",
	}
}

func daemonSet(f *Facts) (int, []Finding) {
	wanted := -1
	findings := told(f, func(f *Facts, d *appsv1.DaemonSet) []Finding {
		wanted = int(d.Status.DesiredNumberScheduled)
		var out []Finding
		if wanted == 0 && d.Status.ObservedGeneration > 0 {
			out = append(out, Finding{
				About: AboutScheduling, Reason: "NoNode", Message: "no node is right for it by its nodeSelector, its node affinity, and the taints that it tolerates",
				Fix: "compare them with kubectl get nodes --show-labels and the nodes' spec.taints",
			})
		}
		if n := int(d.Status.NumberMisscheduled); n > 0 {
			out = append(out, Finding{
				About: AboutScheduling, Reason: "Misscheduled", Message: fmt.Sprintf("%s on nodes that are not right for it any more", plural(n, "Pod runs", "Pods run")),
			})
		}
		if behind := wanted - int(d.Status.UpdatedNumberScheduled); behind > 0 && d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
			out = append(out, onDelete(behind, "DaemonSet"))
		}
		out = append(out, f.warnings(AboutPod, "FailedDaemonPod", "SelectingAll")...)
		return append(out, settling(f, d.Spec.MinReadySeconds)...)
	})
	return wanted, findings
}

func job(f *Facts) workload {
	out := workload{wanted: -1}
	out.findings = told(f, func(f *Facts, j *batchv1.Job) []Finding {
		for _, c := range j.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				continue
			}
			switch c.Type {
			case batchv1.JobComplete:
				out.verdict = fmt.Sprintf("it is complete: %s", plural(int(j.Status.Succeeded), "Pod has succeeded", "Pods have succeeded"))
				return nil
			case batchv1.JobFailed, batchv1.JobFailureTarget:
				out.verdict = fmt.Sprintf("it has failed: %d succeeded, %d failed", j.Status.Succeeded, j.Status.Failed)
				return []Finding{{About: AboutJob, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime), Fix: jobFix[c.Reason]}}
			}
		}
		if j.Spec.ManagedBy != nil && *j.Spec.ManagedBy != batchv1.JobControllerName {
			return []Finding{{About: AboutJob, Reason: "ManagedBy", Message: fmt.Sprintf("the controller %q runs it (spec.managedBy)", *j.Spec.ManagedBy)}}
		}
		if ptr.Deref(j.Spec.Suspend, false) {
			out.verdict = "it is suspended"
			return []Finding{{
				About: AboutJob, Reason: "JobSuspended", Message: "spec.suspend is true: it has no Pods until that changes",
				Fix: fmt.Sprintf(`kubectl patch job %s -n %s -p '{"spec":{"suspend":false}}'`, j.Name, j.Namespace),
			}}
		}
		out.wanted = int(ptr.Deref(j.Spec.Parallelism, 1))
		if j.Spec.Completions != nil {
			out.wanted = min(out.wanted, int(*j.Spec.Completions-j.Status.Succeeded))
		}
		return working(f, j)
	})
	return out
}

// jobFix is what would help against the reasons for which Jobs fail.
var jobFix = map[string]string{
	batchv1.JobReasonBackoffLimitExceeded: "see why its Pods failed below or in their logs; spec.backoffLimit is how many failures it bears",
	batchv1.JobReasonDeadlineExceeded:     "spec.activeDeadlineSeconds is too short for the work, or its Pods could not start",
	batchv1.JobReasonFailedIndexes:        "status.failedIndexes names the indexes; spec.backoffLimitPerIndex is how many failures each bears",
	batchv1.JobReasonPodFailurePolicy:     "a rule of spec.podFailurePolicy ended it",
}

// working returns findings about a Job that has not ended.
func working(f *Facts, j *batchv1.Job) []Finding {
	var out []Finding
	if ptr.Deref(j.Spec.Parallelism, 1) == 0 {
		out = append(out, Finding{About: AboutJob, Reason: "Parallelism", Message: "spec.parallelism is 0: it starts no Pods", Fix: "set spec.parallelism"})
	}
	if f := failures(f, j); f != nil {
		out = append(out, *f)
	}
	if ending := terminating(f); ending > 0 && ptr.Deref(j.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed {
		out = append(out, Finding{
			About: AboutJob, Reason: "Replacement",
			Message: plural(ending, "Pod is terminating", "Pods are terminating") + "; spec.podReplacementPolicy is Failed: each is replaced when it has ended",
		})
	}
	if d := j.Spec.ActiveDeadlineSeconds; d != nil && j.Status.StartTime != nil {
		end := j.Status.StartTime.Add(time.Duration(*d) * time.Second)
		out = append(out, Finding{About: AboutJob, Reason: "Deadline", Next: next(end), Message: fmt.Sprintf("spec.activeDeadlineSeconds (%d) ends it at %s", *d, end.Format(time.TimeOnly))})
	}
	return out
}

// failures returns the finding about failed Pods, for which the next ones wait. Those that a rule of spec.podFailurePolicy
// ignores are not counted in the status, yet they lengthen the wait.
func failures(f *Facts, j *batchv1.Job) *Finding {
	n := int(j.Status.Failed)
	for _, p := range f.Pods {
		if j.Status.Failed == 0 && p.Pod.Status.Phase == corev1.PodFailed {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	limit := fmt.Sprintf("spec.backoffLimit: %d", ptr.Deref(j.Spec.BackoffLimit, 6))
	if per := j.Spec.BackoffLimitPerIndex; per != nil {
		limit = fmt.Sprintf("spec.backoffLimitPerIndex: %d", *per)
	}
	return &Finding{
		About: AboutJob, Reason: "Failures",
		Message: fmt.Sprintf("%s (%s); the wait before the next doubles with each, from 10 s to 10 min", plural(n, "Pod has failed", "Pods have failed"), limit),
	}
}

// terminating counts the Pods whose deletion is under way.
func terminating(f *Facts) int {
	n := 0
	for _, p := range f.Pods {
		if p.Pod.DeletionTimestamp != nil && !p.over() {
			n++
		}
	}
	return n
}

// cronJobWords are the reasons of the events that say why a CronJob makes no Job.
var cronJobWords = []string{
	"UnknownTimeZone", "UnsupportedSchedule", "UnparseableSchedule", "InvalidSchedule", "TooManyMissedTimes", "MissSchedule", "JobAlreadyActive", "FailedCreate", "FailedDelete",
}

func cronJob(f *Facts) workload {
	out := workload{wanted: -1}
	out.findings = told(f, func(f *Facts, c *batchv1.CronJob) []Finding {
		var found []Finding
		switch {
		case c.Status.LastScheduleTime == nil:
			out.verdict = fmt.Sprintf("it has made no Job yet; its schedule is %q", c.Spec.Schedule)
		default:
			out.verdict = fmt.Sprintf("it made its last Job %s ago, %s; its schedule is %q", age(c.Status.LastScheduleTime, f.Now),
				plural(len(c.Status.Active), "is active", "are active"), c.Spec.Schedule)
		}
		if ptr.Deref(c.Spec.Suspend, false) {
			found = append(found, Finding{
				About: AboutJob, Reason: "Suspended", Message: "spec.suspend is true: it makes no Jobs",
				Fix: fmt.Sprintf(`kubectl patch cronjob %s -n %s -p '{"spec":{"suspend":false}}'`, c.Name, c.Namespace),
			})
		}
		if c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(c.Status.Active) > 0 {
			found = append(found, Finding{
				About: AboutJob, Object: c.Status.Active[0].Name, Reason: "ForbidConcurrent",
				Message: fmt.Sprintf("Job %s is active, and spec.concurrencyPolicy is Forbid: the next is made when it has ended", c.Status.Active[0].Name),
			})
		}
		return append(found, f.warnings(AboutJob, cronJobWords...)...)
	})
	return out
}

func budget(f *Facts) workload {
	out := workload{wanted: -1}
	out.findings = told(f, func(_ *Facts, b *policyv1.PodDisruptionBudget) []Finding {
		s := b.Status
		out.verdict = fmt.Sprintf("%s may be evicted now: %d healthy, %d must stay, of %d expected", plural(int(s.DisruptionsAllowed), "Pod", "Pods"), s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods)
		for _, c := range b.Status.Conditions {
			if c.Type == policyv1.DisruptionAllowedCondition && c.Status != "True" {
				fix := "make its Pods ready, run more of them, or ask for fewer in the budget"
				if s.ExpectedPods == 0 {
					fix = "no Pod matches its selector: compare it with kubectl get pods --show-labels"
				}
				return []Finding{{About: AboutPod, Reason: c.Reason, Message: cmp.Or(c.Message, out.verdict), Since: since(c.LastTransitionTime), Fix: fix}}
			}
		}
		return nil
	})
	return out
}

// warnings returns a finding for the latest event of each of the reasons.
func (f *Facts) warnings(about string, reasons ...string) []Finding {
	var out []Finding
	for _, e := range f.events(reasons...) {
		if !slices.ContainsFunc(out, func(o Finding) bool { return o.Reason == e.Reason }) {
			out = append(out, Finding{About: about, Reason: e.Reason, Message: e.Message, Since: seen(&e)})
		}
	}
	return out
}

// next converts a time for a finding.
func next(t time.Time) *metav1.Time { return &metav1.Time{Time: t} }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
