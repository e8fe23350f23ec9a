package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

// mostAtOnce bounds the Pods that one round creates or deletes.
const mostAtOnce = 500

// round is one round over a Job. It has three parts, and what the API server answers to one goes into the next:
// plan decides which Pods to create and delete; account computes the status that must be stored before ended Pods may
// lose their finalizers; settle counts those that have lost them.
//
// A Pod's end is counted exactly once. First its UID is stored in status.uncountedTerminatedPods (of an indexed Job that
// succeeded, its index in status.completedIndexes); then the finalizer is removed; then the UID is replaced by a count.
// Whatever is lost in between, the next round finds the Pod either with its finalizer or with its UID in the status.
type round struct {
	job  *batchv1.Job // a copy; its status is the result
	now  time.Time
	pods []*corev1.Pod // those of the Job
	// released are the Pods whose finalizer is removed already although the cache shows it.
	released map[types.UID]bool
	// current reports whether the cache shows all that was created and deleted.
	current bool
	backOff backOff // before this round

	active             []*corev1.Pod
	succeeded, failed  int32 // with the Pods that have just ended
	newBackOff         backOff
	before, succeededX indexes             // succeeded indexes as stored, and now
	failedX            *indexes            // failed indexes, with spec.backoffLimitPerIndex only
	held               map[int]*corev1.Pod // failed Pods kept until their index has another, by index
	// verdict is the condition with which the Job ends, as it was decided by the Pods; nil while it goes on.
	verdict *batchv1.JobCondition
	again   time.Duration
}

// steps is what plan decides.
type steps struct {
	fail   []*corev1.Pod // deleted because the Job ends; their ends are counted
	drop   []*corev1.Pod // deleted because they are too many; their ends are not counted
	create []int         // indexes of the Pods to create, noIndex for a Pod without one
	// managed is set when the Job was held against what it wants, and not only counted.
	managed bool
}

// outcome is what became of the steps.
type outcome struct {
	created        int32
	deleted        int32 // of fail and drop
	deletedReady   int32
	failedDeletion bool
}

// later has another round after d, unless one is due before.
func (r *round) later(d time.Duration) {
	if d > 0 && (r.again == 0 || d < r.again) {
		r.again = d
	}
}

func condition(j *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if j.Status.Conditions[i].Type == t {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

func isTrue(c *batchv1.JobCondition) bool { return c != nil && c.Status == corev1.ConditionTrue }

// finished reports whether the Job is complete or failed.
func finished(j *batchv1.Job) bool {
	return isTrue(condition(j, batchv1.JobComplete)) || isTrue(condition(j, batchv1.JobFailed))
}

func (r *round) newCondition(t batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.NewTime(r.now)
	return &batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

// plan counts the Pods, decides whether the Job ends, and else which Pods it lacks or has too many.
func (r *round) plan() steps {
	j := r.job
	if j.Status.UncountedTerminatedPods == nil {
		j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	for _, p := range r.pods {
		if podcontrol.Active(p) {
			r.active = append(r.active, p)
		}
	}
	newSucceeded, newFailed := r.newlyEnded()
	uncounted := j.Status.UncountedTerminatedPods
	r.succeeded = j.Status.Succeeded + int32(len(newSucceeded)+len(uncounted.Succeeded))
	r.failed = j.Status.Failed + int32(len(uncounted.Failed))
	for _, p := range newFailed {
		if judge(j.Spec.PodFailurePolicy, p).counts {
			r.failed++
		}
	}
	if j.Status.StartTime == nil && !suspended(j) {
		j.Status.StartTime = ptr.To(metav1.NewTime(r.now))
	}
	r.newBackOff = r.backOff.after(newSucceeded, newFailed)
	r.judge()
	if r.verdict != nil {
		return steps{fail: r.active}
	}
	if !r.current || j.DeletionTimestamp != nil {
		return steps{}
	}
	s := r.manage()
	s.managed = true
	return s
}

// newlyEnded returns the Pods that have ended and are in no count of the status yet.
func (r *round) newlyEnded() (succeeded, ended []*corev1.Pod) {
	uncounted := r.job.Status.UncountedTerminatedPods
	for _, p := range r.pods {
		if !r.countable(p) {
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded && !slices.Contains(uncounted.Succeeded, p.UID) {
			succeeded = append(succeeded, p)
		}
		if failed(r.job, p) && !slices.Contains(uncounted.Failed, p.UID) {
			ended = append(ended, p)
		}
	}
	return succeeded, ended
}

// countable reports whether the Pod's end is still to be counted when it comes.
func (r *round) countable(p *corev1.Pod) bool {
	return tracked(p) && !r.released[p.UID] && inBounds(r.job, p)
}

// judge decides whether the Job ends. The order matters when several reasons hold: what was decided in an earlier round
// first, then the failure policy, the back-off limit, the deadline, the indexes' limits, and the success policy last.
func (r *round) judge() {
	j := r.job
	if c := condition(j, batchv1.JobSuccessCriteriaMet); isTrue(c) {
		r.verdict = c.DeepCopy()
	} else if c := condition(j, batchv1.JobFailureTarget); isTrue(c) {
		r.verdict = c.DeepCopy()
	} else if message := r.failureByPolicy(); message != "" {
		r.verdict = r.newCondition(batchv1.JobFailureTarget, batchv1.JobReasonPodFailurePolicy, message)
	}
	fail := func(reason, message string) {
		if r.verdict == nil {
			r.verdict = r.newCondition(batchv1.JobFailureTarget, reason, message)
		}
	}
	if r.failed > ptr.Deref(j.Spec.BackoffLimit, 0) || r.restartedTooOften() {
		fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if left, limited := r.untilDeadline(); limited && left <= 0 {
		fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	} else if limited && r.verdict == nil {
		r.later(left)
	}
	if !indexed(j) {
		return
	}
	r.countIndexes()
	if r.failedX != nil {
		n := r.failedX.count()
		if j.Spec.MaxFailedIndexes != nil && n > int(*j.Spec.MaxFailedIndexes) {
			fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		} else if n > 0 && n+r.succeededX.count() >= completions(j) {
			fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if r.verdict == nil {
		if message := succeeds(j.Spec.SuccessPolicy, completions(j), r.succeededX); message != "" {
			r.verdict = r.newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, message)
		}
	}
}

// failureByPolicy returns the message of the failure policy that ends the Job, "" if none does.
func (r *round) failureByPolicy() string {
	if r.job.Spec.PodFailurePolicy == nil {
		return ""
	}
	for _, p := range r.pods {
		if failed(r.job, p) {
			if v := judge(r.job.Spec.PodFailurePolicy, p); v.failJob != "" {
				return v.failJob
			}
		}
	}
	return ""
}

// restartedTooOften reports whether the containers of Pods that restart in place have reached the back-off limit.
func (r *round) restartedTooOften() bool {
	if r.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	n := int32(0)
	for _, p := range r.pods {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			n += s.RestartCount
		}
	}
	return n > 0 && n >= ptr.Deref(r.job.Spec.BackoffLimit, 0)
}

// untilDeadline returns the time until spec.activeDeadlineSeconds is over, and whether it counts at all.
func (r *round) untilDeadline() (time.Duration, bool) {
	j := r.job
	if j.Spec.ActiveDeadlineSeconds == nil || j.Status.StartTime == nil || suspended(j) {
		return 0, false
	}
	return j.Status.StartTime.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second).Sub(r.now), true
}

// countIndexes computes the succeeded and the failed indexes, and which failed Pods must stay for now: the count of an
// index's failures is handed from Pod to Pod.
func (r *round) countIndexes() {
	j := r.job
	n := completions(j)
	r.before = parseIndexes(j.Status.CompletedIndexes, n)
	var succeeded, failures []int
	for _, p := range r.pods {
		if !tracked(p) || !inBounds(j, p) {
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded {
			succeeded = append(succeeded, indexOf(p))
		}
		if j.Spec.BackoffLimitPerIndex != nil && failed(j, p) {
			v := judge(j.Spec.PodFailurePolicy, p)
			if v.failIndex || v.counts && number(p, batchv1.JobIndexFailureCountAnnotation) >= *j.Spec.BackoffLimitPerIndex {
				failures = append(failures, indexOf(p))
			}
		}
	}
	r.succeededX = r.before.union(setOf(succeeded...))
	r.succeeded = int32(r.succeededX.count())
	if j.Spec.BackoffLimitPerIndex == nil {
		return
	}
	all := parseIndexes(ptr.Deref(j.Status.FailedIndexes, ""), n).union(setOf(failures...))
	r.failedX = &all
	active := r.indexesOf(r.active)
	r.held = map[int]*corev1.Pod{}
	for _, p := range r.pods {
		i := indexOf(p)
		if !r.countable(p) || !failed(j, p) || r.succeededX.has(i) || all.has(i) || active.has(i) {
			continue
		}
		if have := r.held[i]; have == nil || failuresOf(have) <= failuresOf(p) && !endOf(p).Before(endOf(have)) {
			r.held[i] = p
		}
	}
}

func (r *round) indexesOf(pods []*corev1.Pod) indexes {
	var list []int
	for _, p := range pods {
		if i := indexOf(p); i != noIndex {
			list = append(list, i)
		}
	}
	return setOf(list...)
}

// terminating counts the Pods that are being deleted and have not ended.
func (r *round) terminating() []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range r.pods {
		if p.DeletionTimestamp != nil && !podutil.Ended(p) {
			out = append(out, p)
		}
	}
	return out
}

// wanted returns how many Pods should be active.
func (r *round) wanted() int {
	j := r.job
	parallelism := int(ptr.Deref(j.Spec.Parallelism, 1))
	if j.Spec.Completions == nil {
		if r.succeeded > 0 {
			return len(r.active) // one success is enough: those that run may end, and none is added
		}
		return parallelism
	}
	return max(0, min(parallelism, int(*j.Spec.Completions)-int(r.succeeded)))
}

// manage decides which Pods to delete or, if none, which to create.
func (r *round) manage() steps {
	j := r.job
	if suspended(j) {
		return steps{drop: r.active}
	}
	want := r.wanted()
	if drop := r.surplus(max(0, len(r.active)-want)); len(drop) > 0 {
		return steps{drop: drop[:min(len(drop), mostAtOnce)]}
	}
	missing := want - len(r.active)
	if replacesOnlyFailed(j) {
		missing -= len(r.terminating())
	}
	if missing <= 0 {
		return steps{}
	}
	if j.Spec.BackoffLimitPerIndex == nil {
		if left := r.newBackOff.left(r.now); left > 0 {
			r.later(left)
			return steps{}
		}
	}
	missing = min(missing, mostAtOnce)
	if !indexed(j) {
		return steps{create: slices.Repeat([]int{noIndex}, missing)}
	}
	return steps{create: r.due(r.free(missing))}
}

// free returns the first indexes that have neither a Pod nor an end.
func (r *round) free(most int) []int {
	taken := r.succeededX.union(r.indexesOf(r.active))
	if replacesOnlyFailed(r.job) {
		taken = taken.union(r.indexesOf(r.terminating()))
	}
	if r.failedX != nil {
		taken = taken.union(*r.failedX)
	}
	return taken.missing(completions(r.job), most)
}

// due returns those of the indexes whose back-off is over. When none is, another round comes when the first one is.
func (r *round) due(list []int) []int {
	if r.job.Spec.BackoffLimitPerIndex == nil {
		return list
	}
	var out []int
	for _, i := range list {
		left := time.Duration(0)
		if p := r.held[i]; p != nil {
			left = pauseLeft(failuresOf(p)+1, endOf(p), r.now)
		}
		if left == 0 {
			out = append(out, i)
		}
		r.later(left)
	}
	return out
}

// surplus returns at least n active Pods to delete, those in the earliest stage first: of an indexed Job all that have no
// valid index and all but one of each index.
func (r *round) surplus(n int) []*corev1.Pod {
	ranked := podcontrol.Dispensable(r.active, nil, r.now)
	if !indexed(r.job) {
		return ranked[:min(n, len(ranked))]
	}
	var drop, keep []*corev1.Pod
	seen := map[int]bool{}
	for _, p := range slices.Backward(ranked) { // of each index the one that is furthest stays
		if i := indexOf(p); i == noIndex || i >= completions(r.job) || seen[i] {
			drop = append(drop, p)
		} else {
			seen[i] = true
			keep = append(keep, p)
		}
	}
	slices.Reverse(keep)
	return append(drop, keep[:min(max(0, n-len(drop)), len(keep))]...)
}
