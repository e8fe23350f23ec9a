// Package deployment rolls Deployments out: it keeps a ReplicaSet for each template that a Deployment has had and moves
// replicas from the old ones to the new one. rollout.go decides and is pure; this file reads and writes.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "deployment-controller"

// workers is the number of Deployments that are worked on at a time.
const workers = 5

var kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller keeps the ReplicaSets of every Deployment.
type Controller struct {
	client      kubernetes.Interface
	recorder    record.EventRecorder
	deployments appslisters.DeploymentLister
	replicaSets appslisters.ReplicaSetLister
	pods        corelisters.PodLister
	synced      []cache.InformerSynced
	clock       clock.Clock
	loop        *loop.Loop[types.NamespacedName]
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	deployments, replicaSets, pods := src.All().Apps().V1().Deployments(), src.All().Apps().V1().ReplicaSets(), src.Pods()
	k := &Controller{
		client: client, recorder: recorder, clock: c,
		deployments: deployments.Lister(), replicaSets: replicaSets.Lister(), pods: pods.Lister(),
		synced: []cache.InformerSynced{deployments.Informer().HasSynced, replicaSets.Informer().HasSynced, pods.Informer().HasSynced},
	}
	k.loop = loop.New("deployment", c, workers, k.sync)
	sources.OnChange(deployments.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDiff(replicaSets.Informer(), k.replicaSetChanged)
	sources.OnDelete(pods.Informer(), k.podGone)
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// replicaSetChanged wakes the Deployments that own the ReplicaSet or did before. One that nobody owns wakes every
// Deployment that selects it.
func (k *Controller) replicaSetChanged(old, now *appsv1.ReplicaSet) {
	for _, rs := range []*appsv1.ReplicaSet{old, now} {
		if rs == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(rs); owner != nil {
			if owner.Kind == kind.Kind {
				k.loop.Add(types.NamespacedName{Namespace: rs.Namespace, Name: owner.Name})
			}
			continue
		}
		if rs == now {
			k.offer(rs)
		}
	}
}

func (k *Controller) offer(rs *appsv1.ReplicaSet) {
	if len(rs.Labels) == 0 {
		return
	}
	all, _ := k.deployments.Deployments(rs.Namespace).List(labels.Everything()) // the stores do not fail
	for _, d := range all {
		if podcontrol.Selects(d.Spec.Selector, rs.Labels) {
			k.loop.Add(sources.NameOf(d))
		}
	}
}

// podGone wakes a Deployment of type Recreate, which waits for the last old Pod to go.
func (k *Controller) podGone(o metav1.Object) {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return
	}
	rs, err := k.replicaSets.ReplicaSets(o.GetNamespace()).Get(owner.Name)
	if err != nil || rs.UID != owner.UID {
		return
	}
	if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == kind.Kind {
		d, err := k.deployments.Deployments(rs.Namespace).Get(up.Name)
		if err == nil && d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			k.loop.Add(sources.NameOf(d))
		}
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	d, err := k.deployments.Deployments(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, nil // gone; the garbage collector removes its ReplicaSets
	}
	if equality.Semantic.DeepEqual(d.Spec.Selector, &metav1.LabelSelector{}) {
		return 0, k.selectsAll(ctx, d)
	}
	sets, err := k.claim(ctx, d)
	if err != nil {
		return 0, err
	}
	r := newRollout(d, sets, k.clock.Now())
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		if r.oldPodsRun, err = k.oldPodsRun(r); err != nil {
			return 0, err
		}
	}
	r.decide()
	err = k.write(ctx, d, r)
	return r.again, err
}

// selectsAll tells of a Deployment whose selector is empty, which validation refuses today and an older store may hold.
func (k *Controller) selectsAll(ctx context.Context, d *appsv1.Deployment) error {
	k.recorder.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	d = d.DeepCopy()
	d.Status.ObservedGeneration = d.Generation
	return k.writeStatus(ctx, d)
}

// claim adopts and releases ReplicaSets and returns those that the Deployment owns.
func (k *Controller) claim(ctx context.Context, d *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("read the selector of deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	all, err := k.replicaSets.ReplicaSets(d.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the replica sets of namespace %s: %w", d.Namespace, err)
	}
	keeper := podcontrol.Keeper[*appsv1.ReplicaSet]{
		Owner: d, Kind: kind,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return k.client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		},
		Patch: func(ctx context.Context, rs *appsv1.ReplicaSet, how types.PatchType, body []byte) error {
			_, err := k.client.AppsV1().ReplicaSets(rs.Namespace).Patch(ctx, rs.Name, how, body, metav1.PatchOptions{})
			return err
		},
	}
	return keeper.Keep(ctx, podcontrol.Claim(d, selector, all, func(*appsv1.ReplicaSet) bool { return true }))
}

// oldPodsRun reports whether a Pod of an old ReplicaSet has not ended.
func (k *Controller) oldPodsRun(r *rollout) (bool, error) {
	old := map[types.UID]bool{}
	for _, rs := range r.old {
		old[rs.UID] = true
	}
	pods, err := k.pods.Pods(r.d.Namespace).List(labels.Everything())
	if err != nil {
		return false, fmt.Errorf("list the pods of namespace %s: %w", r.d.Namespace, err)
	}
	for _, p := range pods {
		if owner := metav1.GetControllerOfNoCopy(p); owner != nil && old[owner.UID] && !podutil.Ended(p) {
			return true, nil
		}
	}
	return false, nil
}

// write stores what a round has decided: the ReplicaSets first, the new one before the old ones, then the status.
func (k *Controller) write(ctx context.Context, stored *appsv1.Deployment, r *rollout) error {
	sets := r.all()
	if r.next != nil {
		sets = append([]*replicaSet{r.next}, r.old...)
	}
	for _, rs := range sets {
		if err := k.writeReplicaSet(ctx, stored, r, rs); err != nil {
			return err
		}
	}
	if r.rolledBack != nil {
		return k.writeRollback(ctx, stored, r)
	}
	if equality.Semantic.DeepEqual(stored.Status, r.d.Status) && stored.Annotations[revisionAnnotation] == r.d.Annotations[revisionAnnotation] {
		return nil
	}
	return k.writeStatus(ctx, r.d)
}

// writeRollback stores the template and the annotations of the revision that the Deployment goes back to and tells of it.
// The status follows in the next round, which the change wakes.
func (k *Controller) writeRollback(ctx context.Context, stored *appsv1.Deployment, r *rollout) error {
	if _, err := k.client.AppsV1().Deployments(r.d.Namespace).Update(ctx, r.d, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("roll deployment %s/%s back: %w", r.d.Namespace, r.d.Name, err)
	}
	k.recorder.Event(stored, r.rolledBack.eventType, r.rolledBack.reason, r.rolledBack.message)
	return nil
}

// writeStatus stores the status, and the revision in the annotations. A Deployment that is gone needs none.
func (k *Controller) writeStatus(ctx context.Context, d *appsv1.Deployment) error {
	_, err := k.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	return nil
}

func (k *Controller) writeReplicaSet(ctx context.Context, stored *appsv1.Deployment, r *rollout, rs *replicaSet) error {
	client := k.client.AppsV1().ReplicaSets(rs.Namespace)
	switch {
	case rs.remove:
		err := client.Delete(ctx, rs.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &rs.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete the old replica set %s/%s: %w", rs.Namespace, rs.Name, err)
		}
		return nil
	case rs.create:
		return k.createReplicaSet(ctx, stored, r)
	case !rs.write:
		return nil
	}
	if _, err := client.Update(ctx, rs.ReplicaSet, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update replica set %s/%s: %w", rs.Namespace, rs.Name, err)
	}
	k.tellScaled(stored, rs)
	return nil
}

// tellScaled records the event of a change of size.
func (k *Controller) tellScaled(d *appsv1.Deployment, rs *replicaSet) {
	way := "up"
	switch {
	case rs.want() == rs.was:
		return
	case rs.want() < rs.was:
		way = "down"
	}
	k.recorder.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", way, rs.Name, rs.was, rs.want())
}

// createReplicaSet creates the new ReplicaSet. When its name is taken by one of another template, the count of collisions
// is raised, and the next round tries another name.
func (k *Controller) createReplicaSet(ctx context.Context, stored *appsv1.Deployment, r *rollout) error {
	rs := r.next
	_, err := k.client.AppsV1().ReplicaSets(rs.Namespace).Create(ctx, rs.ReplicaSet, metav1.CreateOptions{})
	switch {
	case err == nil:
		k.tellScaled(stored, rs)
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsAlreadyExists(err):
		return k.resolveCollision(ctx, stored, rs)
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
	k.recorder.Event(stored, corev1.EventTypeWarning, "FailedCreate", message)
	if hasDeadline(stored) {
		failed := newRollout(stored, nil, r.now)
		failed.setCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ReplicaSetCreateError", message)
		if !equality.Semantic.DeepEqual(failed.d.Status, stored.Status) {
			err = errors.Join(err, k.writeStatus(ctx, failed.d))
		}
	}
	return fmt.Errorf("create the replica set %s/%s: %w", rs.Namespace, rs.Name, err)
}

// errNotSeen is returned for a ReplicaSet that was created in an earlier round and that the watch does not show yet.
var errNotSeen = errors.New("the replica set exists and the watch does not show it yet")

func (k *Controller) resolveCollision(ctx context.Context, stored *appsv1.Deployment, rs *replicaSet) error {
	have, err := k.client.AppsV1().ReplicaSets(rs.Namespace).Get(ctx, rs.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read replica set %s/%s, whose name is taken: %w", rs.Namespace, rs.Name, err)
	}
	owner := metav1.GetControllerOfNoCopy(have)
	if owner != nil && owner.UID == stored.UID && sameTemplate(&have.Spec.Template, &stored.Spec.Template) {
		return fmt.Errorf("%s/%s: %w", rs.Namespace, rs.Name, errNotSeen)
	}
	collided := stored.DeepCopy()
	collided.Status.CollisionCount = ptr.To(ptr.Deref(stored.Status.CollisionCount, 0) + 1)
	if err := k.writeStatus(ctx, collided); err != nil {
		return err
	}
	return fmt.Errorf("the name of replica set %s/%s is taken", rs.Namespace, rs.Name)
}
