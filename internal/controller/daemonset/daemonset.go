// Package daemonset keeps one Pod of each DaemonSet on every node that fits. decide.go decides and is pure; this file
// reads and writes.
package daemonset

import (
	"cmp"
	"context"
	"fmt"
	"sync"
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

	"podium.dev/podium/internal/controller/history"
	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "daemonset-controller"

// mostAtOnce bounds the Pods that one round creates or deletes.
const mostAtOnce = 250

// defaultHistoryLimit is spec.revisionHistoryLimit when it is not set.
const defaultHistoryLimit = 10

// workers is the number of sets that are worked on at a time.
const workers = 2

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// Controller keeps the Pods of every DaemonSet.
type Controller struct {
	client    kubernetes.Interface
	recorder  record.EventRecorder
	sets      appslisters.DaemonSetLister
	pods      corelisters.PodLister
	nodes     corelisters.NodeLister
	revisions history.Keeper
	expect    *podcontrol.Expectations
	synced    []cache.InformerSynced
	clock     clock.Clock
	loop      *loop.Loop[types.NamespacedName]

	mu       sync.Mutex
	failures map[types.UID]map[string]backOff // by DaemonSet and node
}

// New returns the controller. It reads from the sources, which are started later.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	sets, revisions := src.All().Apps().V1().DaemonSets(), src.All().Apps().V1().ControllerRevisions()
	pods, nodes := src.Pods(), src.Nodes()
	k := &Controller{
		client: client, recorder: recorder, clock: c, expect: podcontrol.NewExpectations(c), failures: map[types.UID]map[string]backOff{},
		sets: sets.Lister(), pods: pods.Lister(), nodes: nodes.Lister(),
		revisions: history.Keeper{Client: client, Revisions: revisions.Lister()},
		synced: []cache.InformerSynced{
			sets.Informer().HasSynced, revisions.Informer().HasSynced, pods.Informer().HasSynced, nodes.Informer().HasSynced,
		},
	}
	k.loop = loop.New("daemonset", c, workers, k.sync)
	sources.OnChange(sets.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDelete(sets.Informer(), k.forget)
	sources.OnDiff(pods.Informer(), k.podChanged)
	sources.OnDiff(nodes.Informer(), k.nodeChanged)
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) forget(o metav1.Object) {
	k.expect.Forget(o.GetUID())
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.failures, o.GetUID())
}

// podChanged wakes the set that owns the Pod or did before. A Pod that nobody owns wakes every set that selects it.
func (k *Controller) podChanged(old, now *corev1.Pod) {
	for _, p := range []*corev1.Pod{old, now} {
		if p == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
			if owner.Kind == kind.Kind {
				if now == nil {
					k.expect.Gone(owner.UID, p.UID)
				}
				k.loop.Add(types.NamespacedName{Namespace: p.Namespace, Name: owner.Name})
			}
			continue
		}
		if p == now && len(p.Labels) > 0 {
			k.addSelecting(p)
		}
	}
}

func (k *Controller) addSelecting(p *corev1.Pod) {
	sets, _ := k.sets.DaemonSets(p.Namespace).List(labels.Everything()) // the stores do not fail
	for _, ds := range sets {
		if podcontrol.Selects(ds.Spec.Selector, p.Labels) {
			k.loop.Add(sources.NameOf(ds))
		}
	}
}

// nodeChanged wakes every set when a node comes, goes, or changes in what decides where Pods belong.
func (k *Controller) nodeChanged(old, now *corev1.Node) {
	if old != nil && now != nil && equality.Semantic.DeepEqual(old.Labels, now.Labels) && equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
		return
	}
	sets, _ := k.sets.List(labels.Everything()) // the stores do not fail
	for _, ds := range sets {
		k.loop.Add(sources.NameOf(ds))
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	ds, err := k.sets.DaemonSets(name.Namespace).Get(name.Name)
	if err != nil || ds.DeletionTimestamp != nil {
		return 0, nil // the garbage collector removes what it owns
	}
	if equality.Semantic.DeepEqual(ds.Spec.Selector, &metav1.LabelSelector{}) {
		k.recorder.Event(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	return k.syncSet(ctx, ds)
}

func (k *Controller) syncSet(ctx context.Context, ds *appsv1.DaemonSet) (time.Duration, error) {
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("read the selector of daemon set %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return k.client.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	}
	all, err := k.pods.Pods(ds.Namespace).List(labels.Everything())
	if err != nil {
		return 0, fmt.Errorf("list the pods of namespace %s: %w", ds.Namespace, err)
	}
	keeper := podcontrol.Keeper[*corev1.Pod]{Owner: ds, Kind: kind, Fresh: fresh, Patch: podcontrol.Pods{Client: k.client}.Patch}
	mine, err := keeper.Keep(ctx, podcontrol.Claim(ds, selector, all, func(*corev1.Pod) bool { return true }))
	if err != nil {
		return 0, err
	}
	revisions, err := k.revisions.List(ctx, history.Owner{Object: ds, Kind: kind, Selector: selector, Fresh: fresh})
	if err != nil {
		return 0, err
	}
	current, collisions, err := k.revision(ctx, ds, revisions)
	if err != nil {
		return 0, err
	}
	unseen, going := podcontrol.Settle(k.expect, ds.UID, mine)
	v, err := k.view(ds, podcontrol.MarkGoing(mine, going, k.clock.Now()), hashOf(current))
	if err != nil {
		return 0, err
	}
	d := v.decide()
	if collisions > 0 {
		d.status.CollisionCount = &collisions
	}
	if unseen > 0 {
		// The cache does not show all that was created: nothing is decided on it, and this generation is not done with.
		d.status.ObservedGeneration = ds.Status.ObservedGeneration
	} else {
		err = k.act(ctx, v, d)
	}
	if statusErr := k.writeStatus(ctx, ds, d.status); err == nil {
		err = statusErr
	}
	if err != nil {
		return 0, err
	}
	return d.again, k.prune(ctx, ds, revisions, current, mine)
}

// revision returns the stored revision of the set's template.
func (k *Controller) revision(ctx context.Context, ds *appsv1.DaemonSet, revisions []*appsv1.ControllerRevision) (*appsv1.ControllerRevision, int32, error) {
	data, err := history.TemplatePatch(ds)
	if err != nil {
		return nil, 0, fmt.Errorf("revision of daemon set %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	build := func(number int64, collisions int32) *appsv1.ControllerRevision {
		var probe *int32
		if collisions > 0 {
			probe = &collisions
		}
		hash := podcontrol.TemplateHash(&ds.Spec.Template, probe)
		return history.New(history.Owner{Object: ds, Kind: kind}, ds.Spec.Template.Labels, data, number, appsv1.DefaultDaemonSetUniqueLabelKey, hash)
	}
	return k.revisions.Ensure(ctx, revisions, data, ptr.Deref(ds.Status.CollisionCount, 0), build)
}

// prune removes the surplus of revisions.
func (k *Controller) prune(ctx context.Context, ds *appsv1.DaemonSet, revisions []*appsv1.ControllerRevision, current *appsv1.ControllerRevision, pods []*corev1.Pod) error {
	limit := int(ptr.Deref(ds.Spec.RevisionHistoryLimit, defaultHistoryLimit))
	return k.revisions.Remove(ctx, surplus(revisions, limit, current, pods))
}

// surplus returns the oldest of the sorted revisions beyond the limit. Those that a Pod has are kept, yet they count.
func surplus(revisions []*appsv1.ControllerRevision, limit int, current *appsv1.ControllerRevision, pods []*corev1.Pod) []*appsv1.ControllerRevision {
	live := map[string]bool{}
	for _, p := range pods {
		live[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	used := func(r *appsv1.ControllerRevision) bool { return r.Name == current.Name || live[hashOf(r)] }
	for _, r := range revisions {
		if r.Name != current.Name && used(r) {
			limit--
		}
	}
	return history.Surplus(revisions, max(0, limit), used)
}

// hashOf returns the hash by which the Pods of a revision are told. One that lacks it, because it was not made by this
// controller before the set adopted it, is told by its name.
func hashOf(r *appsv1.ControllerRevision) string {
	return cmp.Or(r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], r.Name)
}

func (k *Controller) view(ds *appsv1.DaemonSet, mine []*corev1.Pod, hash string) (*view, error) {
	nodes, err := k.nodes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	v := &view{ds: ds, hash: hash, nodes: nodes, pods: byNode(mine), now: k.clock.Now()}
	v.backOff = func(node string) time.Duration {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.failures[ds.UID][node].left(v.now)
	}
	return v, nil
}

// act deletes and creates what was decided.
func (k *Controller) act(ctx context.Context, v *view, d decision) error {
	for _, f := range d.failed {
		k.tellEnded(v, f)
	}
	owner := podcontrol.Owner{Object: v.ds, Kind: kind, Events: v.ds}
	pods := podcontrol.Pods{Client: k.client, Recorder: k.recorder, Expect: k.expect}
	create := d.create[:min(len(d.create), mostAtOnce)]
	_, err := podcontrol.SlowStart(len(create), func(i int) error {
		return pods.Create(ctx, owner, newPod(owner, v.ds, create[i], v.hash))
	})
	remove := d.remove[:min(len(d.remove), mostAtOnce)]
	removeErr := podcontrol.Each(len(remove), func(i int) error {
		return pods.Delete(ctx, owner, remove[i])
	})
	if err == nil {
		err = removeErr
	}
	return err
}

// tellEnded records the event of a Pod that ended, and lengthens the pause before the next one that fails on its node.
func (k *Controller) tellEnded(v *view, f failure) {
	if f.pod.Status.Phase == corev1.PodSucceeded {
		k.recorder.Eventf(v.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", f.pod.Namespace, f.pod.Name, f.node)
		return
	}
	k.recorder.Eventf(v.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", f.pod.Namespace, f.pod.Name, f.node)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failures[v.ds.UID] == nil {
		k.failures[v.ds.UID] = map[string]backOff{}
	}
	k.failures[v.ds.UID][f.node] = k.failures[v.ds.UID][f.node].next(v.now)
}

func (k *Controller) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, s appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(ds.Status, s) {
		return nil
	}
	out := ds.DeepCopy()
	out.Status = s
	_, err := k.client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of daemon set %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	return nil
}
