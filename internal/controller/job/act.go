package job

import (
	"context"
	"fmt"
	"sync/atomic"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
)

// act carries the steps out. The outcome counts what the API server has acknowledged.
func (k *Controller) act(ctx context.Context, r *round, s steps, going func(*corev1.Pod) bool) (outcome, error) {
	owner := podcontrol.Owner{Object: r.job, Kind: kind, Events: r.job}
	control := podcontrol.Pods{Client: k.client, Recorder: k.recorder, Expect: k.expect}
	var deleted, deletedReady atomic.Int32
	remove := func(pods []*corev1.Pod, uncounted bool) error {
		return podcontrol.Each(len(pods), func(i int) error {
			p := pods[i]
			if !going(p) {
				if uncounted && tracked(p) {
					if err := k.release(ctx, p); err != nil {
						return err
					}
				}
				if err := control.Delete(ctx, owner, p); err != nil {
					return err
				}
			}
			deleted.Add(1)
			if _, ready := podcontrol.ReadySince(p); ready {
				deletedReady.Add(1)
			}
			return nil
		})
	}
	err := remove(s.fail, false)
	if dropErr := remove(s.drop, true); err == nil {
		err = dropErr
	}
	created, createErr := podcontrol.SlowStart(len(s.create), func(i int) error {
		return control.Create(ctx, owner, newPod(owner, r.job, s.create[i], r.held[s.create[i]]))
	})
	o := outcome{created: int32(created), deleted: deleted.Load(), deletedReady: deletedReady.Load(), failedDeletion: err != nil}
	if err == nil {
		err = createErr
	}
	return o, err
}

// store writes what a round has found: the status, then the removal of finalizers, then the counts and the end.
func (k *Controller) store(ctx context.Context, stored *batchv1.Job, r *round, s *state, a accounted) error {
	if !equality.Semantic.DeepEqual(stored.Status, r.job.Status) {
		if err := k.writeStatus(ctx, r); err != nil {
			return err
		}
	}
	if a.suspend != "" {
		k.recorder.Event(stored, corev1.EventTypeNormal, a.suspend, "Job "+lower[a.suspend])
	}
	k.mu.Lock()
	s.backOff = r.newBackOff
	k.mu.Unlock()
	ok := make([]bool, len(a.release))
	releaseErr := podcontrol.Each(len(a.release), func(i int) error {
		k.mu.Lock()
		s.released[a.release[i].UID] = true
		k.mu.Unlock()
		if err := k.release(ctx, a.release[i]); err != nil {
			k.forgetReleased(stored.UID, a.release[i].UID)
			return err
		}
		ok[i] = true
		return nil
	})
	var released []*corev1.Pod
	for i, p := range a.release {
		if ok[i] {
			released = append(released, p)
		}
	}
	changed, ended := r.settle(released, a.more || releaseErr != nil)
	if changed {
		if err := k.writeStatus(ctx, r); err != nil {
			return err
		}
	}
	if ended {
		k.mu.Lock()
		s.ended = true
		k.mu.Unlock()
		k.tellEnd(r.job)
	}
	return releaseErr
}

// lower are the words for the reasons of the events of a suspension.
var lower = map[string]string{"Suspended": "suspended", "Resumed": "resumed"}

// writeStatus stores the status; the next write of the round is then made on what was stored.
func (k *Controller) writeStatus(ctx context.Context, r *round) error {
	updated, err := k.client.BatchV1().Jobs(r.job.Namespace).UpdateStatus(ctx, r.job, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write the status of job %s/%s: %w", r.job.Namespace, r.job.Name, err)
	}
	r.job = updated.DeepCopy()
	if r.job.Status.UncountedTerminatedPods == nil {
		r.job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	return nil
}

// tellEnd records the event of the Job's end.
func (k *Controller) tellEnd(j *batchv1.Job) {
	if c := condition(j, batchv1.JobFailed); isTrue(c) {
		k.recorder.Event(j, corev1.EventTypeWarning, c.Reason, c.Message)
		return
	}
	if j.Spec.Completions != nil && j.Status.Succeeded > ptr.Deref(j.Spec.Completions, 0) {
		k.recorder.Event(j, corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	k.recorder.Event(j, corev1.EventTypeNormal, "Completed", "Job completed")
}
