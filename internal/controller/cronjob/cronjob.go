// Package cronjob creates the Jobs of CronJobs at their times. It sleeps until the next time of a schedule is due and
// never scans. schedule.go and decide.go decide and are pure; this file reads and writes.
package cronjob

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "cronjob-controller"

// workers is the number of CronJobs that are worked on at a time.
const workers = 5

var kind = batchv1.SchemeGroupVersion.WithKind("CronJob")

// Controller creates the Jobs of every CronJob.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	crons    batchlisters.CronJobLister
	jobs     batchlisters.JobLister
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	crons, jobs := src.All().Batch().V1().CronJobs(), src.All().Batch().V1().Jobs()
	k := &Controller{
		client: client, recorder: recorder, clock: c, crons: crons.Lister(), jobs: jobs.Lister(),
		synced: []cache.InformerSynced{crons.Informer().HasSynced, jobs.Informer().HasSynced},
	}
	k.loop = loop.New("cronjob", c, workers, k.sync)
	sources.OnChange(crons.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnAny(jobs.Informer(), func(o metav1.Object) {
		if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == kind.Kind {
			k.loop.Add(types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name})
		}
	})
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	c, err := k.crons.CronJobs(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, nil // gone; the garbage collector removes its Jobs
	}
	return k.syncCron(ctx, c)
}

func (k *Controller) syncCron(ctx context.Context, c *batchv1.CronJob) (time.Duration, error) {
	all, err := k.jobs.Jobs(c.Namespace).List(labels.Everything())
	if err != nil {
		return 0, fmt.Errorf("list the jobs of namespace %s: %w", c.Namespace, err)
	}
	r := &round{c: c.DeepCopy(), now: k.clock.Now()}
	for _, j := range all {
		if metav1.IsControlledBy(j, c) {
			r.jobs = append(r.jobs, j)
		}
	}
	r.review()
	if len(r.forgotten) > 0 {
		stored, err := k.client.BatchV1().CronJobs(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("read cron job %s/%s: %w", c.Namespace, c.Name, err)
		}
		if err == nil && stored.ResourceVersion != c.ResourceVersion {
			return loop.Behind, nil // the cache is behind
		}
		r.unexpected()
	}
	for _, ref := range r.doubtful {
		_, err := k.client.BatchV1().Jobs(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			r.missing(ref)
		case err != nil:
			return 0, fmt.Errorf("look for job %s/%s: %w", c.Namespace, ref.Name, err)
		}
	}
	r.start()
	r.trim()
	for _, e := range r.events {
		k.recorder.Event(c, e.kind, e.reason, e.message)
	}
	if err := k.act(ctx, r); err != nil {
		return 0, err
	}
	if !equality.Semantic.DeepEqual(c.Status, r.c.Status) {
		if _, err := k.client.BatchV1().CronJobs(c.Namespace).UpdateStatus(ctx, r.c, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("write the status of cron job %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	return r.again, nil
}

// act deletes and creates Jobs as decided, and enters the new one into the status.
func (k *Controller) act(ctx context.Context, r *round) error {
	for _, ref := range r.replace {
		if err := k.delete(ctx, r, ref.Name, ref.UID); err != nil {
			return err
		}
		r.dropActive(ref.UID)
	}
	for _, j := range r.prune {
		if err := k.delete(ctx, r, j.Name, j.UID); err != nil {
			return err
		}
		r.dropActive(j.UID)
	}
	if r.create == nil {
		return nil
	}
	made, err := k.client.BatchV1().Jobs(r.c.Namespace).Create(ctx, r.create, metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsAlreadyExists(err):
		// It was created before a crash, or by someone else.
		if made, err = k.client.BatchV1().Jobs(r.c.Namespace).Get(ctx, r.create.Name, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("read job %s/%s, whose name is taken: %w", r.c.Namespace, r.create.Name, err)
		}
		if !metav1.IsControlledBy(made, r.c) || r.isActive(made.UID) || end(made) != "" {
			return nil
		}
	case err != nil:
		k.recorder.Eventf(r.c, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return fmt.Errorf("create job %s/%s: %w", r.c.Namespace, r.create.Name, err)
	default:
		k.recorder.Eventf(r.c, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	}
	r.c.Status.Active = append(r.c.Status.Active, corev1.ObjectReference{
		APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: made.Name, Namespace: made.Namespace, UID: made.UID, ResourceVersion: made.ResourceVersion,
	})
	r.c.Status.LastScheduleTime = &metav1.Time{Time: r.at}
	return nil
}

// delete deletes a Job, and with it its Pods in the background.
func (k *Controller) delete(ctx context.Context, r *round, name string, uid types.UID) error {
	background := metav1.DeletePropagationBackground
	err := k.client.BatchV1().Jobs(r.c.Namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		k.recorder.Eventf(r.c, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete job %s/%s: %w", r.c.Namespace, name, err)
	}
	k.recorder.Eventf(r.c, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", name)
	return nil
}
