// Package job runs Jobs to their end: Pods until enough have succeeded or too many have failed. decide.go and account.go
// decide and are pure; the other files read and write.
package job

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "job-controller"

// workers is the number of Jobs that are worked on at a time.
const workers = 5

var kind = batchv1.SchemeGroupVersion.WithKind("Job")

// Controller runs the Jobs.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	jobs     batchlisters.JobLister
	pods     corelisters.PodLister
	expect   *podcontrol.Expectations
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]
	orphans  *loop.Loop[types.NamespacedName]

	mu     sync.Mutex
	states map[types.UID]*state
}

// state is what is known of a Job beyond the caches.
type state struct {
	backOff  backOff
	released map[types.UID]bool // Pods whose finalizer is removed and that the cache shows with it
	ended    bool               // the end is stored and the cache does not show it
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	jobs, pods := src.All().Batch().V1().Jobs(), src.Pods()
	k := &Controller{
		client: client, recorder: recorder, clock: c, expect: podcontrol.NewExpectations(c), states: map[types.UID]*state{},
		jobs: jobs.Lister(), pods: pods.Lister(),
		synced: []cache.InformerSynced{jobs.Informer().HasSynced, pods.Informer().HasSynced},
	}
	k.loop = loop.New("job", c, workers, k.sync)
	k.orphans = loop.New("job pods without a job", c, workers, k.freeOrphan)
	sources.OnChange(jobs.Informer(), k.jobChanged)
	sources.OnDelete(jobs.Informer(), k.jobGone)
	sources.OnDiff(pods.Informer(), k.podChanged)
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), k.synced...) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.loop.Run(ctx) })
	both.Go(func() { k.orphans.Run(ctx) })
	both.Wait()
}

// elsewhere reports whether another controller runs the Job, see spec.managedBy.
func elsewhere(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.ManagedBy, batchv1.JobControllerName) != batchv1.JobControllerName
}

func (k *Controller) jobChanged(o metav1.Object) {
	k.loop.Add(sources.NameOf(o))
	if j, ok := o.(*batchv1.Job); ok && finished(j) {
		k.addOrphansOf(j)
	}
}

func (k *Controller) jobGone(o metav1.Object) {
	k.expect.Forget(o.GetUID())
	k.mu.Lock()
	delete(k.states, o.GetUID())
	k.mu.Unlock()
	k.addOrphansOf(o)
}

// addOrphansOf has the Pods of a Job looked at that has ended or is gone: nobody counts their ends any more.
func (k *Controller) addOrphansOf(job metav1.Object) {
	pods, _ := k.pods.Pods(job.GetNamespace()).List(labels.Everything()) // the stores do not fail
	for _, p := range pods {
		if owner := metav1.GetControllerOfNoCopy(p); owner != nil && owner.UID == job.GetUID() && tracked(p) {
			k.orphans.Add(sources.NameOf(p))
		}
	}
}

// podChanged wakes the Job that owns the Pod or did before, and every Job that may adopt it. A Pod that is left with the
// finalizer and without a Job is freed of it.
func (k *Controller) podChanged(old, now *corev1.Pod) {
	for _, p := range []*corev1.Pod{old, now} {
		if p == nil {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(p)
		if owner != nil && owner.Kind == kind.Kind {
			if now == nil {
				k.expect.Gone(owner.UID, p.UID)
			}
			if now == nil || p == now && !tracked(p) {
				k.forgetReleased(owner.UID, p.UID)
			}
			k.loop.Add(types.NamespacedName{Namespace: p.Namespace, Name: owner.Name})
		}
		if p != now {
			continue
		}
		if owner == nil && len(p.Labels) > 0 {
			k.addSelecting(p)
		}
		if tracked(p) && (owner == nil || owner.Kind == kind.Kind && k.jobOf(p) == nil) {
			k.orphans.Add(sources.NameOf(p))
		}
	}
}

func (k *Controller) forgetReleased(job, pod types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.states[job]; s != nil {
		delete(s.released, pod)
	}
}

func (k *Controller) addSelecting(p *corev1.Pod) {
	jobs, _ := k.jobs.Jobs(p.Namespace).List(labels.Everything()) // the stores do not fail
	for _, j := range jobs {
		if podcontrol.Selects(j.Spec.Selector, p.Labels) {
			k.loop.Add(sources.NameOf(j))
		}
	}
}

// jobOf returns the Job that owns the Pod, nil when there is none any more.
func (k *Controller) jobOf(p *corev1.Pod) *batchv1.Job {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil || owner.Kind != kind.Kind {
		return nil
	}
	j, err := k.jobs.Jobs(p.Namespace).Get(owner.Name)
	if err != nil || j.UID != owner.UID {
		return nil
	}
	return j
}

// freeOrphan removes the finalizer of a Pod whose end no Job counts.
func (k *Controller) freeOrphan(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	p, err := k.pods.Pods(name.Namespace).Get(name.Name)
	if err != nil || !tracked(p) {
		return 0, nil
	}
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
		j := k.jobOf(p)
		if owner.Kind != kind.Kind || j != nil && (elsewhere(j) || !finished(j)) {
			return 0, nil
		}
	}
	return 0, k.release(ctx, p)
}

// release removes the Pod's finalizer. A Pod that is gone has none.
func (k *Controller) release(ctx context.Context, p *corev1.Pod) error {
	body := fmt.Sprintf(`{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, p.UID, batchv1.JobTrackingFinalizer)
	_, err := k.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove the job's finalizer from pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	j, err := k.jobs.Jobs(name.Namespace).Get(name.Name)
	if err != nil || elsewhere(j) {
		return 0, nil
	}
	k.mu.Lock()
	s := k.states[j.UID]
	if s == nil {
		s = &state{released: map[types.UID]bool{}}
		k.states[j.UID] = s
	}
	ended := s.ended
	k.mu.Unlock()
	if finished(j) || ended {
		return 0, nil
	}
	if m := j.Spec.CompletionMode; m != nil && *m != batchv1.NonIndexedCompletion && *m != batchv1.IndexedCompletion {
		k.recorder.Event(j, corev1.EventTypeWarning, "UnknownCompletionMode", "Skipped Job sync because completion mode is unknown")
		return 0, nil
	}
	return k.syncJob(ctx, j, s)
}

func (k *Controller) syncJob(ctx context.Context, j *batchv1.Job, s *state) (time.Duration, error) {
	pods, err := k.claim(ctx, j)
	if err != nil {
		return 0, err
	}
	unseen, going := podcontrol.Settle(k.expect, j.UID, pods)
	r := &round{job: j.DeepCopy(), now: k.clock.Now(), pods: pods, released: map[types.UID]bool{}, current: unseen == 0}
	for _, p := range pods {
		r.current = r.current && !going(p)
	}
	k.mu.Lock()
	r.backOff = s.backOff
	for uid := range s.released {
		r.released[uid] = true
	}
	k.mu.Unlock()
	todo := r.plan()
	done, actErr := k.act(ctx, r, todo, going)
	a := r.account(todo, done)
	if err := k.store(ctx, j, r, s, a); err != nil {
		return 0, err
	}
	return r.again, actErr
}

// claim adopts and releases Pods and returns those of the Job.
func (k *Controller) claim(ctx context.Context, j *batchv1.Job) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("read the selector of job %s/%s: %w", j.Namespace, j.Name, err)
	}
	all, err := k.pods.Pods(j.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the pods of namespace %s: %w", j.Namespace, err)
	}
	keeper := podcontrol.Keeper[*corev1.Pod]{
		Owner: j, Kind: kind, Finalizer: batchv1.JobTrackingFinalizer, Patch: podcontrol.Pods{Client: k.client}.Patch,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return k.client.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
		},
	}
	return keeper.Keep(ctx, podcontrol.Claim(j, selector, all, func(*corev1.Pod) bool { return true }))
}
