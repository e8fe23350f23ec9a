// Package podgc removes Pods that nothing else removes: those of deleted nodes, those deleted before they had a
// node, those that a broken node cannot finish, and the oldest ended Pods if there are too many.
package podgc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/podstatus"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// DefaultThreshold is how many ended Pods are kept (kube-controller-manager's --terminated-pod-gc-threshold).
const DefaultThreshold = 12500

// quarantine is how long a node must be missing before its Pods are removed. The node may be about to register
// again.
const quarantine = 40 * time.Second

// key selects what to look at: one Pod, the Pods of one node, or, if both are empty, the number of ended Pods.
type key struct {
	namespace, pod string
	node           string
}

// Controller removes lost Pods.
type Controller struct {
	client    kubernetes.Interface
	pods      corelisters.PodLister
	byNode    cache.Indexer
	nodes     corelisters.NodeLister
	synced    []cache.InformerSynced
	clock     clock.Clock
	threshold int
	loop      *loop.Loop[key]
	missing   *missing
}

// New returns a controller. threshold is the number of ended Pods to keep, 0 for all.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock, threshold int) *Controller {
	pods, nodes := src.Pods(), src.Nodes()
	k := &Controller{
		client: client, clock: c, threshold: threshold, missing: newMissing(),
		pods: pods.Lister(), byNode: pods.Informer().GetIndexer(), nodes: nodes.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, nodes.Informer().HasSynced},
	}
	k.loop = loop.New("podgc", c, 4, k.sync)
	sources.OnDiff(pods.Informer(), k.onPodChange)
	sources.OnDiff(nodes.Informer(), k.onNodeChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) onPodChange(old, now *corev1.Pod) {
	if now == nil {
		return
	}
	if now.Spec.NodeName != "" && (old == nil || old.Spec.NodeName == "") {
		k.loop.Add(key{node: now.Spec.NodeName})
	}
	if now.DeletionTimestamp != nil && (old == nil || old.DeletionTimestamp == nil) {
		k.loop.Add(key{namespace: now.Namespace, pod: now.Name})
	}
	if k.threshold > 0 && podutil.Ended(now) && (old == nil || !podutil.Ended(old)) {
		k.loop.Add(key{})
	}
}

func (k *Controller) onNodeChange(old, now *corev1.Node) {
	switch {
	case now == nil:
		k.loop.Add(key{node: old.Name})
	case outOfService(now) && (old == nil || !outOfService(old)):
		k.loop.Add(key{node: now.Name})
	}
}

func (k *Controller) sync(ctx context.Context, what key) (time.Duration, error) {
	switch {
	case what.node != "":
		return k.syncNode(ctx, what.node)
	case what.pod != "":
		return 0, k.syncPod(ctx, what.namespace, what.pod)
	}
	return 0, k.syncEnded(ctx)
}

// syncPod removes a Pod that is being deleted and whose end no node agent will report.
func (k *Controller) syncPod(ctx context.Context, namespace, name string) error {
	pod, err := k.pods.Pods(namespace).Get(name)
	if err != nil || pod.DeletionTimestamp == nil {
		return nil
	}
	if pod.Spec.NodeName == "" {
		return k.remove(ctx, pod)
	}
	if node, err := k.nodes.Get(pod.Spec.NodeName); err == nil && outOfService(node) {
		return k.remove(ctx, pod)
	}
	return nil
}

// syncNode removes the Pods of a node that has been missing for the quarantine, and the terminating Pods of a
// node that is out of service.
func (k *Controller) syncNode(ctx context.Context, name string) (time.Duration, error) {
	pods, err := k.podsOf(name)
	if err != nil {
		return 0, err
	}
	node, err := k.nodes.Get(name)
	if err == nil {
		k.missing.forget(name)
		if !outOfService(node) {
			return 0, nil
		}
		return 0, k.removeAll(ctx, slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil }))
	}
	if len(pods) == 0 {
		k.missing.forget(name)
		return 0, nil
	}
	if left := quarantine - k.clock.Since(k.missing.since(name, k.clock.Now())); left > 0 {
		return left, nil
	}
	switch _, err := k.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); {
	case err == nil:
		return 0, nil // the informer will see the node soon
	case !apierrors.IsNotFound(err):
		return 0, fmt.Errorf("read node %s: %w", name, err)
	}
	return 0, k.removeAll(ctx, pods)
}

func (k *Controller) podsOf(node string) ([]*corev1.Pod, error) {
	objs, err := k.byNode.ByIndex(sources.PodsByNode, node)
	if err != nil {
		return nil, fmt.Errorf("find the pods of node %s: %w", node, err)
	}
	out := make([]*corev1.Pod, 0, len(objs))
	for _, o := range objs {
		if pod, ok := o.(*corev1.Pod); ok {
			out = append(out, pod)
		}
	}
	return out, nil
}

// syncEnded removes the ended Pods beyond the threshold: evicted ones first, then the oldest.
func (k *Controller) syncEnded(ctx context.Context) error {
	pods, err := k.pods.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !podutil.Ended(p) })
	if len(pods) <= k.threshold {
		return nil
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		if ae, be := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"; ae != be {
			if ae {
				return -1
			}
			return 1
		}
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return k.removeAll(ctx, pods[:len(pods)-k.threshold])
}

func (k *Controller) removeAll(ctx context.Context, pods []*corev1.Pod) error {
	var errs []error
	for _, pod := range pods {
		errs = append(errs, k.remove(ctx, pod))
	}
	return errors.Join(errs...)
}

// remove marks the Pod as Failed, because nothing else will, and deletes it at once.
func (k *Controller) remove(ctx context.Context, pod *corev1.Pod) error {
	var conditions []corev1.PodCondition
	if _, err := k.nodes.Get(pod.Spec.NodeName); err != nil && pod.Spec.NodeName != "" {
		conditions = append(conditions, podstatus.Disrupted(pod, "DeletionByPodGC", "PodGC: node no longer exists"))
	}
	klog.FromContext(ctx).Info("Removing lost pod", "pod", klog.KObj(pod), "node", pod.Spec.NodeName, "phase", pod.Status.Phase)
	err := podstatus.Fail(ctx, k.client, pod, k.clock.Now(), conditions...)
	if err == nil {
		err = k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("remove pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// outOfService reports whether an operator declared the node dead and it is indeed not ready.
func outOfService(node *corev1.Node) bool {
	tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	return tainted && !ready
}
