// Package statefulset keeps the members of StatefulSets: Pods with a name, a host name and claims of their own, created,
// updated and removed in order. decide.go decides and is pure; this file reads and writes.
package statefulset

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/history"
	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "statefulset-controller"

// defaultHistoryLimit is spec.revisionHistoryLimit when it is not set.
const defaultHistoryLimit = 10

// workers is the number of sets that are worked on at a time.
const workers = 5

var kind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// Controller keeps the members of every StatefulSet.
type Controller struct {
	client    kubernetes.Interface
	recorder  record.EventRecorder
	sets      appslisters.StatefulSetLister
	pods      corelisters.PodLister
	claims    corelisters.PersistentVolumeClaimLister
	revisions history.Keeper
	expect    *podcontrol.Expectations
	synced    []cache.InformerSynced
	clock     clock.Clock
	loop      *loop.Loop[types.NamespacedName]
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	sets, revisions := src.All().Apps().V1().StatefulSets(), src.All().Apps().V1().ControllerRevisions()
	pods, claims := src.Pods(), src.All().Core().V1().PersistentVolumeClaims()
	k := &Controller{
		client: client, recorder: recorder, clock: c, expect: podcontrol.NewExpectations(c),
		sets: sets.Lister(), pods: pods.Lister(), claims: claims.Lister(),
		revisions: history.Keeper{Client: client, Revisions: revisions.Lister()},
		synced: []cache.InformerSynced{
			sets.Informer().HasSynced, revisions.Informer().HasSynced, pods.Informer().HasSynced, claims.Informer().HasSynced,
		},
	}
	k.loop = loop.New("statefulset", c, workers, k.sync)
	sources.OnChange(sets.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDelete(sets.Informer(), func(o metav1.Object) { k.expect.Forget(o.GetUID()) })
	sources.OnDiff(pods.Informer(), k.podChanged)
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// podChanged wakes the set that owns the Pod or did before, and every set that may adopt it.
func (k *Controller) podChanged(old, now *corev1.Pod) {
	for _, p := range []*corev1.Pod{old, now} {
		if p == nil {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(p)
		if owner != nil {
			if owner.Kind == kind.Kind {
				if now == nil {
					k.expect.Gone(owner.UID, p.UID)
				}
				k.loop.Add(types.NamespacedName{Namespace: p.Namespace, Name: owner.Name})
			}
			continue
		}
		if m := podName.FindStringSubmatch(p.Name); m != nil && p == now {
			if _, err := k.sets.StatefulSets(p.Namespace).Get(m[1]); err == nil {
				k.loop.Add(types.NamespacedName{Namespace: p.Namespace, Name: m[1]})
			}
		}
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	set, err := k.sets.StatefulSets(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, nil // gone; the garbage collector removes its Pods
	}
	return k.syncSet(ctx, set)
}

func (k *Controller) syncSet(ctx context.Context, set *appsv1.StatefulSet) (time.Duration, error) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("read the selector of stateful set %s/%s: %w", set.Namespace, set.Name, err)
	}
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return k.client.AppsV1().StatefulSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
	}
	pods, err := k.members(ctx, set, selector, fresh)
	if err != nil {
		return 0, err
	}
	revisions, err := k.revisions.List(ctx, history.Owner{Object: set, Kind: kind, Selector: selector, Fresh: fresh})
	if err != nil {
		return 0, err
	}
	unseen, going := podcontrol.Settle(k.expect, set.UID, pods)
	v, err := k.view(ctx, set, podcontrol.MarkGoing(pods, going, k.clock.Now()), revisions)
	if err != nil {
		return 0, err
	}
	d := v.decide()
	if unseen > 0 {
		// A member that was created is not in the cache yet: the next round is for then.
		d.phases = nil
	}
	err = k.act(ctx, v, d)
	if statusErr := k.writeStatus(ctx, set, d.status); err == nil {
		err = statusErr
	}
	if err != nil {
		return 0, err
	}
	used := map[string]bool{v.currentRevision: true, v.nextRevision: true}
	for _, p := range pods {
		used[revisionOf(p)] = true
	}
	limit := int(ptr.Deref(set.Spec.RevisionHistoryLimit, defaultHistoryLimit))
	surplus := history.Surplus(revisions, limit, func(r *appsv1.ControllerRevision) bool { return used[r.Name] })
	return d.again, k.revisions.Remove(ctx, surplus)
}

// members adopts and releases Pods and returns those of the set.
func (k *Controller) members(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*corev1.Pod, error) {
	all, err := k.pods.Pods(set.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the pods of namespace %s: %w", set.Namespace, err)
	}
	keeper := podcontrol.Keeper[*corev1.Pod]{Owner: set, Kind: kind, Fresh: fresh, Patch: podcontrol.Pods{Client: k.client}.Patch}
	return keeper.Keep(ctx, podcontrol.Claim(set, selector, all, func(p *corev1.Pod) bool { return ordinal(set.Name, p.Name) >= 0 }))
}

// view reads what one round needs and makes the set's newest revision if there is none yet.
func (k *Controller) view(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod, revisions []*appsv1.ControllerRevision) (*view, error) {
	data, err := history.TemplatePatch(set)
	if err != nil {
		return nil, fmt.Errorf("revision of stateful set %s/%s: %w", set.Namespace, set.Name, err)
	}
	build := func(number int64, collisions int32) *appsv1.ControllerRevision {
		return history.New(history.Owner{Object: set, Kind: kind}, set.Spec.Template.Labels, data, number, history.HashLabel, history.Hash(data, &collisions))
	}
	next, collisions, err := k.revisions.Ensure(ctx, revisions, data, ptr.Deref(set.Status.CollisionCount, 0), build)
	if err != nil {
		return nil, err
	}
	current := next
	for _, r := range revisions {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	v := &view{set: set, pods: pods, now: k.clock.Now(), collisions: collisions, currentRevision: current.Name, nextRevision: next.Name}
	if v.current, err = at(set, current); err != nil {
		return nil, err
	}
	if v.next, err = at(set, next); err != nil {
		return nil, err
	}
	if len(set.Spec.VolumeClaimTemplates) > 0 {
		claims, err := k.claims.PersistentVolumeClaims(set.Namespace).List(labels.Everything())
		if err != nil {
			return nil, fmt.Errorf("list the claims of namespace %s: %w", set.Namespace, err)
		}
		v.claims = map[string]*corev1.PersistentVolumeClaim{}
		for _, c := range claims {
			v.claims[c.Name] = c
		}
	}
	return v, nil
}

// at returns the set with the template that it had at a revision.
func at(set *appsv1.StatefulSet, r *appsv1.ControllerRevision) (*appsv1.StatefulSet, error) {
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode stateful set %s/%s: %w", set.Namespace, set.Name, err)
	}
	patched, err := strategicpatch.StrategicMergePatch(text, r.Data.Raw, &appsv1.StatefulSet{})
	if err != nil {
		return nil, fmt.Errorf("apply controller revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	restored := &appsv1.StatefulSet{}
	if err := json.Unmarshal(patched, restored); err != nil {
		return nil, fmt.Errorf("read controller revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	out := set.DeepCopy()
	out.Spec = restored.Spec
	return out, nil
}

// act carries the phases out, until one fails.
func (k *Controller) act(ctx context.Context, v *view, d decision) error {
	for _, phase := range d.phases {
		_, err := podcontrol.SlowStart(len(phase), func(i int) error {
			return k.do(ctx, v, phase[i])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Controller) writeStatus(ctx context.Context, set *appsv1.StatefulSet, s appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, s) {
		return nil
	}
	out := set.DeepCopy()
	out.Status = s
	_, err := k.client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of stateful set %s/%s: %w", set.Namespace, set.Name, err)
	}
	return nil
}
