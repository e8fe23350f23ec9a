// Package tainteviction deletes Pods from nodes with NoExecute taints that they do not tolerate, or tolerate
// only for a time.
package tainteviction

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/podstatus"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "taint-eviction-controller"

// Controller evicts Pods because of taints.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	pods     corelisters.PodLister
	byNode   cache.Indexer
	nodes    corelisters.NodeLister
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]

	mu sync.Mutex
	// tolerated records since when a Pod has stayed on a tainted node by a toleration with a time limit. The
	// time starts when that was first seen, so that a change of the taints does not restart it.
	tolerated map[types.NamespacedName]stayed
}

// stayed is a limited stay of one Pod, by UID.
type stayed struct {
	uid   types.UID
	since time.Time
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	pods, nodes := src.Pods(), src.Nodes()
	k := &Controller{
		client: client, recorder: recorder, clock: c, tolerated: map[types.NamespacedName]stayed{},
		pods: pods.Lister(), byNode: pods.Informer().GetIndexer(), nodes: nodes.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, nodes.Informer().HasSynced},
	}
	k.loop = loop.New("taint-eviction", c, 8, k.sync)
	sources.OnDiff(pods.Informer(), k.onPodChange)
	sources.OnDiff(nodes.Informer(), k.onNodeChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) onPodChange(old, now *corev1.Pod) {
	switch {
	case now == nil:
		k.loop.Add(sources.NameOf(old))
	case now.Spec.NodeName == "":
	case old == nil || old.Spec.NodeName != now.Spec.NodeName || !slices.EqualFunc(old.Spec.Tolerations, now.Spec.Tolerations, sameToleration):
		k.loop.Add(sources.NameOf(now))
	}
}

func (k *Controller) onNodeChange(old, now *corev1.Node) {
	if now == nil {
		return // the Pod garbage collector handles the Pods of a deleted node
	}
	var before []corev1.Taint
	if old != nil {
		before = noExecute(old.Spec.Taints)
	}
	if slices.EqualFunc(before, noExecute(now.Spec.Taints), sameTaint) {
		return
	}
	objs, _ := k.byNode.ByIndex(sources.PodsByNode, now.Name) // fails only for an index that does not exist
	for _, o := range objs {
		if pod, ok := o.(*corev1.Pod); ok {
			k.loop.Add(sources.NameOf(pod))
		}
	}
}

func sameTaint(a, b corev1.Taint) bool { return a.Key == b.Key && a.Value == b.Value }

func sameToleration(a, b corev1.Toleration) bool {
	return a.MatchToleration(&b) && (a.TolerationSeconds == nil) == (b.TolerationSeconds == nil) &&
		(a.TolerationSeconds == nil || *a.TolerationSeconds == *b.TolerationSeconds)
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	pod, err := k.pods.Pods(name.Namespace).Get(name.Name)
	if err != nil {
		k.cancel(name, nil)
		return 0, nil
	}
	node, err := k.nodes.Get(pod.Spec.NodeName)
	if err != nil {
		k.cancel(name, pod)
		return 0, nil
	}
	allowed := stay(klog.FromContext(ctx), noExecute(node.Spec.Taints), pod.Spec.Tolerations)
	if allowed == forever {
		k.cancel(name, pod)
		return 0, nil
	}
	if left := allowed - k.clock.Since(k.since(name, pod.UID)); allowed > 0 && left > 0 {
		return left, nil
	}
	k.forget(name)
	if pod.DeletionTimestamp != nil {
		return 0, nil
	}
	return 0, k.evict(ctx, pod)
}

// since returns when the Pod's stay began, which is now if that is news.
func (k *Controller) since(name types.NamespacedName, uid types.UID) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.tolerated[name]; ok && s.uid == uid {
		return s.since
	}
	k.tolerated[name] = stayed{uid: uid, since: k.clock.Now()}
	return k.tolerated[name].since
}

func (k *Controller) forget(name types.NamespacedName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, had := k.tolerated[name]
	delete(k.tolerated, name)
	return had
}

// cancel drops a scheduled eviction and records an event.
func (k *Controller) cancel(name types.NamespacedName, pod *corev1.Pod) {
	if k.forget(name) {
		k.recorder.Eventf(reference(name, pod), corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", name)
	}
}

func (k *Controller) evict(ctx context.Context, pod *corev1.Pod) error {
	name := sources.NameOf(pod)
	klog.FromContext(ctx).Info("Deleting pod because of a NoExecute taint", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
	k.recorder.Eventf(reference(name, pod), corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", name)
	c := podstatus.Disrupted(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
	err := podstatus.SetCondition(ctx, k.client, pod, c, k.clock.Now())
	if err == nil {
		err = k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("evict pod %s from node %s: %w", name, pod.Spec.NodeName, err)
}

func reference(name types.NamespacedName, pod *corev1.Pod) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: name.Namespace, Name: name.Name}
	if pod != nil {
		ref.UID = pod.UID
	}
	return ref
}
