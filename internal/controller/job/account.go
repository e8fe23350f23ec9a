package job

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
)

// mostUncounted bounds the ends that one round counts: 500 UIDs keep the status below 20 kB.
const mostUncounted = 500

// accounted is what account computes in addition to the status.
type accounted struct {
	release []*corev1.Pod // Pods that may lose their finalizer once the status is stored
	more    bool          // ends are left for the next round
	suspend string        // the reason of the event of a suspension or its end, "" for none
}

// account computes the status that must be stored before the finalizers of ended Pods are removed.
func (r *round) account(s steps, o outcome) accounted {
	var a accounted
	active := int32(len(r.active)) + o.created - o.deleted
	if r.verdict != nil {
		if o.failedDeletion || !r.current {
			// Pods may be left or unseen: the Job does not end in this round.
			r.verdict = nil
		}
	} else {
		r.conclude(active)
		if r.verdict == nil && s.managed {
			a.suspend = r.noteSuspension()
		}
	}
	st := &r.job.Status
	st.Active = active
	ready := int32(0)
	for _, p := range r.active {
		if _, ok := podcontrol.ReadySince(p); ok {
			ready++
		}
	}
	st.Ready = ptr.To(max(0, ready-o.deletedReady))
	st.Terminating = ptr.To(int32(len(r.terminating())) + o.deleted)
	r.count(&a)
	if indexed(r.job) {
		st.Succeeded, st.CompletedIndexes = int32(r.succeededX.count()), r.succeededX.String()
		st.FailedIndexes = nil
		if r.failedX != nil {
			st.FailedIndexes = ptr.To(r.failedX.String())
		}
	}
	if r.verdict != nil && condition(r.job, r.verdict.Type) == nil {
		st.Conditions = append(st.Conditions, *r.verdict)
	}
	return a
}

// conclude decides whether enough Pods have succeeded.
func (r *round) conclude(active int32) {
	enough := r.succeeded > 0
	if c := r.job.Spec.Completions; c != nil {
		enough = r.succeeded >= *c
	}
	if enough && active == 0 {
		r.verdict = r.newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

// noteSuspension writes the condition Suspended. It returns the reason of the event when the condition changed. The time
// that a Job is suspended does not count against its deadline.
func (r *round) noteSuspension() string {
	st := &r.job.Status
	want := r.newCondition(batchv1.JobSuspended, "JobSuspended", "Job suspended")
	event := "Suspended"
	if !suspended(r.job) {
		want = r.newCondition(batchv1.JobSuspended, "JobResumed", "Job resumed")
		want.Status, event = corev1.ConditionFalse, "Resumed"
	}
	have := condition(r.job, batchv1.JobSuspended)
	switch {
	case have == nil && want.Status == corev1.ConditionFalse:
		return ""
	case have == nil:
		st.Conditions = append(st.Conditions, *want)
	case have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message:
		return ""
	default:
		*have = *want
	}
	st.StartTime = nil
	if !suspended(r.job) {
		st.StartTime = ptr.To(metav1.NewTime(r.now))
	}
	return event
}

// count enters the ends of Pods into the status. Those of a Job that is over or being deleted are all released, and those
// that have not succeeded in a failed Job count as failed.
func (r *round) count(a *accounted) {
	j := r.job
	st := j.Status.UncountedTerminatedPods
	r.forgetReleased()
	r.succeededX = r.before // the indexes are entered again below, as many as one round takes
	pods := slices.Clone(r.pods)
	if indexed(j) {
		slices.SortStableFunc(pods, func(x, y *corev1.Pod) int { return cmp.Compare(indexOf(x), indexOf(y)) })
	}
	var fresh []int
	for _, p := range pods {
		if !tracked(p) || r.released[p.UID] || !r.releasable(p) {
			continue
		}
		a.release = append(a.release, p)
		switch {
		case p.Status.Phase == corev1.PodSucceeded && !slices.Contains(st.Failed, p.UID):
			if indexed(j) {
				if inBounds(j, p) && !r.before.has(indexOf(p)) {
					fresh = append(fresh, indexOf(p))
				}
			} else if !slices.Contains(st.Succeeded, p.UID) {
				st.Succeeded = append(st.Succeeded, p.UID)
			}
		case (failed(j, p) || r.verdict != nil && r.verdict.Type != batchv1.JobSuccessCriteriaMet) && inBounds(j, p):
			if !slices.Contains(st.Failed, p.UID) && judge(j.Spec.PodFailurePolicy, p).counts {
				st.Failed = append(st.Failed, p.UID)
			}
		}
		if len(fresh)+len(st.Succeeded)+len(st.Failed) >= mostUncounted {
			a.more = true
			break
		}
	}
	r.succeededX = r.before.union(setOf(fresh...))
}

// releasable reports whether the Pod's end may be counted and its finalizer removed.
func (r *round) releasable(p *corev1.Pod) bool {
	switch {
	case r.job.DeletionTimestamp != nil || r.verdict != nil || p.Status.Phase == corev1.PodSucceeded:
		return true
	case !failed(r.job, p):
		return false
	}
	held := r.held[indexOf(p)]
	return held == nil || held.UID != p.UID
}

// forgetReleased counts the uncounted Pods whose finalizer is gone. It reports whether there were any.
func (r *round) forgetReleased() bool {
	kept := map[types.UID]bool{}
	for _, p := range r.pods {
		kept[p.UID] = tracked(p) && !r.released[p.UID]
	}
	st := &r.job.Status
	move := func(list []types.UID, count *int32) []types.UID {
		left := slices.DeleteFunc(slices.Clone(list), func(uid types.UID) bool { return !kept[uid] })
		*count += int32(len(list) - len(left))
		if len(left) == 0 {
			return nil
		}
		return left
	}
	before := len(st.UncountedTerminatedPods.Succeeded) + len(st.UncountedTerminatedPods.Failed)
	st.UncountedTerminatedPods.Succeeded = move(st.UncountedTerminatedPods.Succeeded, &st.Succeeded)
	st.UncountedTerminatedPods.Failed = move(st.UncountedTerminatedPods.Failed, &st.Failed)
	return before != len(st.UncountedTerminatedPods.Succeeded)+len(st.UncountedTerminatedPods.Failed)
}

// settle counts the Pods that lost their finalizers after the status was stored, and ends the Job when everything is
// counted and no Pod is left. It reports whether the status changed and whether the Job has ended.
func (r *round) settle(released []*corev1.Pod, more bool) (changed, ended bool) {
	for _, p := range released {
		r.released[p.UID] = true
	}
	changed = r.forgetReleased()
	st := &r.job.Status
	open := len(st.UncountedTerminatedPods.Succeeded) + len(st.UncountedTerminatedPods.Failed)
	if r.verdict == nil || more || open > 0 || ptr.Deref(st.Terminating, 0) > 0 {
		return changed, false
	}
	t := batchv1.JobFailed
	if r.verdict.Type == batchv1.JobSuccessCriteriaMet {
		t = batchv1.JobComplete
	}
	end := r.newCondition(t, r.verdict.Reason, r.verdict.Message)
	st.Conditions = append(st.Conditions, *end)
	if t == batchv1.JobComplete {
		st.CompletionTime = &end.LastTransitionTime
	}
	return true, true
}
