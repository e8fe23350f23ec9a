// Package nodelifecycle detects silent nodes and maintains the taints that follow from a node's conditions.
//
// A node gives a sign of life by renewing its lease or by writing its status. If it has given none for the
// grace period, its conditions become Unknown and its Pods not ready. Each bad condition adds a NoSchedule
// taint to the node. A node that is not ready or silent also gets a NoExecute taint, which evicts its Pods:
// slowly, and not at all while every node seems broken, because then this side is more likely to be
// disconnected.
package nodelifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "node-controller"

// Config sets how long a node may be silent. Zero values mean the defaults.
type Config struct {
	Grace        time.Duration
	StartupGrace time.Duration
}

// Controller monitors the nodes. It processes one node at a time, so that the state of the zones, which depends
// on all nodes, needs no lock.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	nodes    corelisters.NodeLister
	byNode   cache.Indexer
	synced   []cache.InformerSynced
	clock    clock.Clock
	config   Config
	loop     *loop.Loop[string]
	zones    map[string]*zone
	dark     bool

	mu     sync.Mutex
	health map[string]*health
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock, config Config) *Controller {
	if config.Grace == 0 {
		config.Grace = DefaultGrace
	}
	if config.StartupGrace == 0 {
		config.StartupGrace = DefaultStartupGrace
	}
	pods, nodes, leases := src.Pods(), src.Nodes(), src.NodeLeases()
	k := &Controller{
		client: client, recorder: recorder, clock: c, config: config,
		nodes: nodes.Lister(), byNode: pods.Informer().GetIndexer(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, nodes.Informer().HasSynced, leases.Informer().HasSynced},
		zones:  map[string]*zone{}, health: map[string]*health{},
	}
	k.loop = loop.New("nodelifecycle", c, 1, k.sync)
	sources.OnDiff(nodes.Informer(), k.onNodeChange)
	sources.OnDiff(leases.Informer(), k.onLeaseChange)
	sources.OnDiff(pods.Informer(), k.onPodChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Controller) onNodeChange(old, now *corev1.Node) {
	if now == nil {
		k.loop.Add(old.Name)
		return
	}
	k.with(now.Name, func(h *health) {
		if h.uid != string(now.UID) {
			*h = health{uid: string(now.UID)}
		}
		h.observe(now, k.clock.Now())
	})
	k.loop.Add(now.Name)
}

func (k *Controller) onLeaseChange(_, now *coordv1.Lease) {
	if now != nil {
		k.with(now.Name, func(h *health) { h.renew(now.Spec.RenewTime, now.ResourceVersion, k.clock.Now()) })
	}
}

// onPodChange queues the node of a newly bound Pod. If the node is silent, its new Pod is not ready.
func (k *Controller) onPodChange(old, now *corev1.Pod) {
	if now == nil || now.Spec.NodeName == "" || old != nil && old.Spec.NodeName != "" {
		return
	}
	if node, err := k.nodes.Get(now.Spec.NodeName); err == nil && readiness(node) != corev1.ConditionTrue {
		k.loop.Add(node.Name)
	}
}

// with calls f to read and change what is remembered of a node.
func (k *Controller) with(node string, f func(*health)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.health[node] == nil {
		k.health[node] = &health{}
	}
	f(k.health[node])
}

func (k *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	node, err := k.nodes.Get(name)
	if err != nil {
		k.forget(ctx, name)
		return 0, nil
	}
	k.greet(node)
	var h health
	k.with(name, func(live *health) { h = *live })
	left := h.deadline(node, k.config.Grace, k.config.StartupGrace).Sub(k.clock.Now())
	if left <= 0 {
		if conditions := silent(node, k.clock.Now()); len(conditions) > 0 {
			return k.declareSilent(ctx, node, h, conditions)
		}
		left = 0 // already known to be silent; only an event can change that
	}
	k.recount(klog.FromContext(ctx))
	if err := k.reconcileLabels(ctx, node); err != nil {
		return 0, err
	}
	again, err := k.reconcileTaints(ctx, node)
	if err != nil {
		return 0, err
	}
	if readiness(node) == corev1.ConditionUnknown {
		if err := k.distrustPods(ctx, node); err != nil {
			return 0, err
		}
	}
	if again > 0 && (left == 0 || again < left) {
		return again, nil
	}
	return left, nil
}

// greet records the event of a node's registration, once.
func (k *Controller) greet(node *corev1.Node) {
	known := true
	k.with(node.Name, func(h *health) { known, h.greeted = h.greeted, true })
	if !known {
		k.record(node.Name, string(node.UID), "RegisteredNode", fmt.Sprintf("Registered Node %s in Controller", node.Name))
	}
}

// forget drops a deleted node.
func (k *Controller) forget(ctx context.Context, name string) {
	k.mu.Lock()
	h := k.health[name]
	delete(k.health, name)
	k.mu.Unlock()
	if h != nil && h.greeted {
		k.record(name, h.uid, "RemovingNode", fmt.Sprintf("Removing Node %s from Controller", name))
	}
	k.recount(klog.FromContext(ctx))
}

func (k *Controller) record(name, uid, reason, text string) {
	k.recorder.Eventf(nodeReference(name, uid), corev1.EventTypeNormal, reason, "Node %s event: %s", name, text)
}

// recount recomputes the zones' states.
func (k *Controller) recount(logger klog.Logger) {
	nodes, err := k.nodes.List(everything)
	if err != nil {
		return // the informer's store does not fail
	}
	counts := map[string]*count{}
	for _, node := range nodes {
		if excluded(node) {
			continue
		}
		name := zoneOf(node)
		if counts[name] == nil {
			counts[name] = &count{}
		}
		counts[name].add(readiness(node))
	}
	switch turn(k.zones, counts) {
	case shiftIntoDarkness:
		logger.Info("No node is ready, suspending evictions until one is")
		k.dark = true
	case shiftOutOfDarkness:
		logger.Info("A node is ready again, restarting the grace period of the others")
		k.dark = false
		now := k.clock.Now()
		for _, node := range nodes {
			k.with(node.Name, func(h *health) { h.seen = now })
		}
	default:
		return
	}
	for _, node := range nodes {
		k.loop.Add(node.Name)
	}
}
