package job

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

// noIndex is the completion index of a Pod that has none.
const noIndex = -1

// indexVariable is the environment variable that holds a Pod's completion index.
const indexVariable = "JOB_COMPLETION_INDEX"

func indexed(j *batchv1.Job) bool {
	return j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batchv1.IndexedCompletion
}

func suspended(j *batchv1.Job) bool { return ptr.Deref(j.Spec.Suspend, false) }

// replacesOnlyFailed reports whether a Pod is replaced only when it has ended, not as soon as it is being deleted.
func replacesOnlyFailed(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed
}

// completions returns the number of indexes of an indexed Job.
func completions(j *batchv1.Job) int { return int(ptr.Deref(j.Spec.Completions, 0)) }

// indexOf returns the Pod's completion index, noIndex for one without.
func indexOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return noIndex
	}
	return n
}

// inBounds reports whether the Pod belongs to its Job's completions: any Pod does unless the Job is indexed.
func inBounds(j *batchv1.Job, p *corev1.Pod) bool {
	i := indexOf(p)
	return !indexed(j) || i != noIndex && i < completions(j)
}

// tracked reports whether the Pod still has the finalizer that keeps it until its end has been counted.
func tracked(p *corev1.Pod) bool {
	return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer)
}

// failed reports whether the Pod counts as failed. One that is being deleted does, for it may go without an end of its
// own, unless the Job waits for Pods to end.
func failed(j *batchv1.Job, p *corev1.Pod) bool {
	switch {
	case p.Status.Phase == corev1.PodFailed:
		return true
	case replacesOnlyFailed(j):
		return false
	}
	return p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

// number reads a count from an annotation, 0 for anything but an int32.
func number(p *corev1.Pod, annotation string) int32 {
	n, err := strconv.Atoi(p.Annotations[annotation])
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0
	}
	return int32(n)
}

// failuresOf returns how often earlier Pods of the same index failed, all told.
func failuresOf(p *corev1.Pod) int32 {
	return number(p, batchv1.JobIndexFailureCountAnnotation) + number(p, batchv1.JobIndexIgnoredFailureCountAnnotation)
}

// endOf returns when the Pod ended: the end of its last container, else when it stopped being ready, else when its
// deletion was requested, else its creation.
func endOf(p *corev1.Pod) time.Time {
	sidecars := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		sidecars[c.Name] = podutil.IsSidecar(&c)
	}
	var last time.Time
	ended := true
	look := func(s corev1.ContainerStatus) {
		if s.State.Terminated == nil || s.State.Terminated.FinishedAt.IsZero() {
			ended = false
			return
		}
		if s.State.Terminated.FinishedAt.After(last) {
			last = s.State.Terminated.FinishedAt.Time
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		look(s)
	}
	for _, s := range p.Status.InitContainerStatuses {
		if sidecars[s.Name] {
			look(s)
		}
	}
	if ended && !last.IsZero() {
		return last
	}
	if c := podutil.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if p.DeletionTimestamp != nil {
		return p.DeletionTimestamp.Add(-time.Duration(ptr.Deref(p.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	return p.CreationTimestamp.Time
}

// newPod returns a Pod of the Job. With an index it says so in its name, host name, label, annotation and environment;
// replaced is the failed Pod of the same index, if there is one whose failures are to be counted on.
func newPod(owner podcontrol.Owner, j *batchv1.Job, index int, replaced *corev1.Pod) *corev1.Pod {
	p := podcontrol.FromTemplate(owner, &j.Spec.Template)
	if !tracked(p) {
		p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if index == noIndex {
		return p
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			addIndexVariable(&list[i])
		}
	}
	suffix := "-" + strconv.Itoa(index) + "-"
	p.GenerateName = j.Name[:min(len(j.Name), names.MaxGeneratedNameLength-len(suffix))] + suffix
	p.Spec.Hostname = fmt.Sprintf("%s-%d", j.Name, index)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Labels[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	p.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	if j.Spec.BackoffLimitPerIndex != nil {
		counted, ignored := nextFailures(j, replaced)
		p.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(counted))
		if ignored > 0 {
			p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
		}
	}
	return p
}

func addIndexVariable(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
	}})
}

// nextFailures returns the failures of an index with that of the Pod that is replaced.
func nextFailures(j *batchv1.Job, replaced *corev1.Pod) (counted, ignored int32) {
	if replaced == nil {
		return 0, 0
	}
	counted, ignored = number(replaced, batchv1.JobIndexFailureCountAnnotation), number(replaced, batchv1.JobIndexIgnoredFailureCountAnnotation)
	if judge(j.Spec.PodFailurePolicy, replaced).counts {
		return counted + 1, ignored
	}
	return counted, ignored + 1
}
