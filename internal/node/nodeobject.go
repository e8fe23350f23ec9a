package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/podutil"
)

// freshTimeout is how long a Pod waits for the Node to be read again.
const freshTimeout = 5 * time.Second

// watchSelf keeps the Node object as the API server has it: its labels and taints are others' to change.
func (n *Node) watchSelf(ctx context.Context) error {
	nodes := n.c.Client.CoreV1().Nodes()
	selector := fields.OneTermEqualSelector("metadata.name", n.c.Name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return nodes.Watch(ctx, o)
		},
	}
	see := func(o any) {
		if node, ok := o.(*corev1.Node); ok {
			n.see(node)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, n.c.Client),
		ObjectType:    &corev1.Node{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, o any) { see(o) }},
		Transform: func(o any) (any, error) {
			if node, ok := o.(*corev1.Node); ok {
				node.ManagedFields = nil
			}
			return o, nil
		},
	})
	informer.RunWithContext(ctx)
	if ctx.Err() == nil {
		return fmt.Errorf("the watch of node %s ended by itself", n.c.Name)
	}
	return nil
}

// see takes note of the Node as the API server has it, unless a newer state was seen. Conditions of the node's own that
// others have overruled are put right at once.
func (n *Node) see(node *corev1.Node) {
	n.mu.Lock()
	before := n.seen
	if before != nil {
		if order, err := resourceversion.CompareResourceVersion(before.ResourceVersion, node.ResourceVersion); err == nil && order > 0 {
			node = before
		}
	}
	n.seen = node
	if !n.lastWrite.IsZero() && overruled(node.Status) {
		n.reportSoon()
	}
	if !n.lastWrite.IsZero() && takesPods(node) {
		n.readyOnce.Do(func() { close(n.ready) })
	}
	n.mu.Unlock()
	n.tellSchedulable(before, node)
}

// overruled reports whether a condition of the node's own is Unknown. The node never says so of itself: the node life
// cycle controller does when it has not heard of the node for the monitor's grace period. Only then is the status
// written out of turn, so that two writers with other views do not chase each other.
func overruled(s corev1.NodeStatus) bool {
	for t := range conditionEvents {
		if statusOf(s, t) == corev1.ConditionUnknown {
			return true
		}
	}
	return false
}

// takesPods reports whether the scheduler gives the node Pods, as far as its being ready goes: every new Node has
// the taint until the node life cycle controller has seen that it is ready.
func takesPods(node *corev1.Node) bool {
	return statusOf(node.Status, corev1.NodeReady) == corev1.ConditionTrue &&
		!slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
}

// node is the Node as it was last seen, nil while it is not registered.
func (n *Node) node() *corev1.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

// catchUp reads the Node again for a Pod that would be refused for the Node's labels: the scheduler may know of
// a change that the watch has not brought yet.
func (n *Node) catchUp(ctx context.Context, p *corev1.Pod) {
	node := n.node()
	if node == nil || podutil.IsMirror(p) {
		return
	}
	if fits, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node); fits || err != nil {
		return
	}
	if _, known := n.workers.Pod(p.UID); known {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	fresh, err := n.c.Client.CoreV1().Nodes().Get(ctx, n.c.Name, metav1.GetOptions{})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Failed to read the node again", "node", n.c.Name, "pod", klog.KObj(p))
		return
	}
	n.see(fresh)
}
