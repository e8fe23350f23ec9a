// Package ttlafterfinished deletes Jobs that have ended longer ago than their spec.ttlSecondsAfterFinished.
package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Controller deletes Jobs in time.
type Controller struct {
	client kubernetes.Interface
	jobs   batchlisters.JobLister
	synced cache.InformerSynced
	clock  clock.Clock
	loop   *loop.Loop[types.NamespacedName]
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock) *Controller {
	jobs := src.All().Batch().V1().Jobs()
	k := &Controller{client: client, clock: c, jobs: jobs.Lister(), synced: jobs.Informer().HasSynced}
	k.loop = loop.New("ttl-after-finished", c, 2, k.sync)
	sources.OnChange(jobs.Informer(), func(o metav1.Object) {
		if j, ok := o.(*batchv1.Job); ok && j.Spec.TTLSecondsAfterFinished != nil {
			k.loop.Add(sources.NameOf(j))
		}
	})
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced)
}

// left returns the time after which the Job is to be deleted, and whether it is to be deleted at all.
func left(j *batchv1.Job, now time.Time) (time.Duration, bool) {
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return 0, false
	}
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second).Sub(now), true
		}
	}
	return 0, false
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	j, err := k.jobs.Jobs(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, nil
	}
	if d, ends := left(j, k.clock.Now()); !ends || d > 0 {
		return max(d, 0), nil
	}
	// The time to live may have been raised since: what is stored decides.
	client := k.client.BatchV1().Jobs(name.Namespace)
	stored, err := client.Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read job %s before it is deleted: %w", name, err)
	}
	if d, ends := left(stored, k.clock.Now()); !ends || d > 0 {
		return max(d, 0), nil
	}
	foreground := metav1.DeletePropagationForeground
	err = client.Delete(ctx, name.Name, metav1.DeleteOptions{
		PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &stored.UID, ResourceVersion: &stored.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete job %s, which ended long enough ago: %w", name, err)
	}
	return 0, nil
}
