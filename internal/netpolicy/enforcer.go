package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/nft"
	"podium.dev/podium/internal/podutil"
)

// Network is what the policies need of the Pods' network; *network.Network is one.
type Network interface {
	// Sandboxes are the sandboxes of the built-in network.
	Sandboxes() []network.Sandbox
	// PortGroup is the device group of the node's ends of their links.
	PortGroup() uint32
	// UsesCNI reports whether a CNI configuration serves new Pods.
	UsesCNI() bool
}

// Config is what an Enforcer is made of.
type Config struct {
	// ID is the node's, by which its tables are named.
	ID string
	// NodeName is the node's name.
	NodeName string
	Client   kubernetes.Interface
	Network  Network
	// IPv6 is set when Pods have addresses of IPv6 too.
	IPv6  bool
	Clock clock.Clock
}

// Enforcer enforces the policies of the cluster on the node's Pods.
type Enforcer struct {
	cfg      Config
	families []family
	policies *policySource
	inbox    inbox
	confirms confirmations

	mu       sync.Mutex
	objects  *objectSource // nil while there is no policy
	state    *state        // nil while no table is written
	compiled map[types.NamespacedName]compiledPolicy
	pods     map[types.UID]*corev1.Pod
	early    map[types.UID]*corev1.Pod // those about to start that the source has not seen
	local    map[types.UID][]network.Sandbox
	swept    bool          // what an earlier run may have left is gone, or taken over
	told     bool          // that CNI is in use was logged
	moved    chan struct{} // closed when all that came was acted on
	run      context.Context
	flushed  <-chan struct{} // when somebody may have deleted the tables
	watching func()          // ends the watch behind flushed
	retry    time.Duration
}

type compiledPolicy struct {
	version string
	policy  *policy // nil for one that selects nothing
}

// New returns an Enforcer; nothing happens before Run.
func New(cfg Config) *Enforcer {
	e := &Enforcer{
		cfg: cfg, families: []family{v4}, compiled: map[types.NamespacedName]compiledPolicy{}, moved: make(chan struct{}),
		inbox: newInbox(), confirms: confirmations{of: map[string]bool{}},
	}
	if cfg.IPv6 {
		e.families = append(e.families, v6)
	}
	e.policies = newPolicySource(cfg.Client, e.inbox.wakeUp)
	return e
}

// Run follows the policies until ctx ends. The tables stay.
func (e *Enforcer) Run(ctx context.Context) error {
	e.mu.Lock()
	e.run = ctx
	e.mu.Unlock()
	stopped := e.policies.start(ctx)
	defer stopped()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.stopLocked()
	}()
	for {
		e.mu.Lock()
		err := e.processLocked()
		flushed := e.flushed
		close(e.moved)
		e.moved = make(chan struct{})
		e.mu.Unlock()
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			e.retry = min(max(2*e.retry, firstRetry), lastRetry)
			klog.FromContext(ctx).Error(err, "Failed to write the network policies", "retryIn", e.retry)
			again = e.cfg.Clock.After(e.retry)
		} else {
			e.retry = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.inbox.wake:
		case <-again:
		case <-flushed:
			e.checkTables(ctx)
		}
	}
}

const firstRetry, lastRetry = time.Second, 30 * time.Second

// processLocked acts on all that came, and writes the tables where they change.
func (e *Enforcer) processLocked() error {
	if !e.policies.synced() {
		return nil
	}
	all := e.policies.list()
	if len(all) > 0 && e.cfg.Network.UsesCNI() && len(e.cfg.Network.Sandboxes()) == 0 {
		if !e.told {
			e.told = true
			klog.FromContext(e.run).Info("A CNI configuration serves the Pods' network: NetworkPolicies are left to its plugins")
		}
		all = nil
	}
	if len(all) == 0 {
		return e.endLocked()
	}
	if e.objects == nil {
		e.objects = newObjectSource(e.cfg.Client, &e.inbox)
		e.objects.start(e.run)
		e.pods, e.early = map[types.UID]*corev1.Pod{}, map[types.UID]*corev1.Pod{}
	}
	if !e.objects.synced() {
		return nil
	}
	e.updateLocked(all)
	return e.writeLocked()
}

// endLocked stops what policies needed, as there is none.
func (e *Enforcer) endLocked() error {
	if e.swept && e.objects == nil {
		return nil
	}
	e.stopLocked()
	if err := Remove(e.cfg.ID); err != nil {
		return err
	}
	e.swept = true
	return nil
}

func (e *Enforcer) stopLocked() {
	if e.objects != nil {
		e.objects.stop()
		e.objects = nil
	}
	if e.watching != nil {
		e.watching()
		e.watching, e.flushed = nil, nil
	}
	e.state, e.pods, e.early, e.local = nil, nil, nil, nil
	e.compiled = map[types.NamespacedName]compiledPolicy{}
}

// updateLocked brings the state to what is known now.
func (e *Enforcer) updateLocked(all []*networkingv1.NetworkPolicy) {
	pods, namespaces := e.inbox.take()
	fresh := e.state == nil
	if fresh {
		e.state = newState(e.families)
	}
	whole := e.compileLocked(all) || fresh
	if whole || namespaces {
		seen := e.objects.namespaces()
		whole = whole || !sameNamespaces(seen, e.state.namespaces)
		e.state.namespaces = seen
	}
	changed := map[types.UID]bool{}
	for uid, pod := range pods {
		changed[uid] = true
		if pod == nil {
			delete(e.pods, uid)
			continue
		}
		e.pods[uid] = pod
		delete(e.early, uid)
	}
	for uid := range e.early {
		changed[uid] = true
	}
	for _, uid := range e.followSandboxesLocked() {
		changed[uid] = true
	}
	for uid := range changed {
		pod, there := e.podLocked(uid)
		switch {
		case !there && whole:
			delete(e.state.pods, uid)
		case !there:
			e.state.deletePod(uid)
		case whole:
			e.state.pods[uid] = pod
		default:
			e.state.setPod(uid, pod)
		}
	}
	if whole {
		e.state.rebuild()
		for name := range e.state.closed {
			klog.FromContext(e.run).Error(nil, "The NetworkPolicies of the namespace are too many or too large; this one allows nothing", "networkPolicy", name, "rules", maxRules, "peers", maxPeers)
		}
	}
}

// compileLocked brings the policies up to date and reports whether one changed.
func (e *Enforcer) compileLocked(all []*networkingv1.NetworkPolicy) (changed bool) {
	compiled := make(map[types.NamespacedName]compiledPolicy, len(all))
	policies := make(map[types.NamespacedName]*policy, len(all))
	for _, np := range all {
		name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
		version := string(np.UID) + "/" + fmt.Sprint(np.Generation) + "/" + np.ResourceVersion
		c, known := e.compiled[name]
		if !known || c.version != version {
			p, err := compile(np)
			if err != nil {
				klog.FromContext(e.run).Error(err, "A part of a NetworkPolicy cannot be enforced and allows nothing", "networkPolicy", name)
			}
			c, changed = compiledPolicy{version, p}, true
		}
		compiled[name] = c
		if c.policy != nil {
			policies[name] = c.policy
		}
	}
	changed = changed || len(compiled) != len(e.compiled)
	e.compiled, e.state.policies = compiled, policies
	return changed
}

// followSandboxesLocked returns the Pods whose sandboxes changed.
func (e *Enforcer) followSandboxesLocked() (changed []types.UID) {
	now := map[types.UID][]network.Sandbox{}
	for _, s := range e.cfg.Network.Sandboxes() {
		now[types.UID(s.UID)] = append(now[types.UID(s.UID)], s)
	}
	for uid, sandboxes := range now {
		if !sameSandboxes(sandboxes, e.local[uid]) {
			changed = append(changed, uid)
		}
	}
	for uid := range e.local {
		if now[uid] == nil {
			changed = append(changed, uid)
			delete(e.early, uid)
		}
	}
	e.local = now
	return changed
}

// podLocked is a Pod as policies see it; false for one that has no addresses.
func (e *Enforcer) podLocked(uid types.UID) (pod, bool) {
	object := e.pods[uid]
	if object == nil {
		object = e.early[uid]
	}
	return podOf(object, e.local[uid], e.cfg.NodeName)
}

// writeLocked writes what changed.
func (e *Enforcer) writeLocked() error {
	if e.watching == nil {
		ctx, cancel := context.WithCancel(e.run)
		var done sync.WaitGroup
		flushed, err := nft.Watch(ctx, tableName(e.cfg.ID), &done)
		if err != nil {
			cancel()
			return err
		}
		e.flushed, e.watching = flushed, func() { cancel(); done.Wait() }
	}
	tables := func() []nft.Table { return e.state.tables(e.cfg.ID, e.cfg.Network.PortGroup()) }
	if !e.state.reshaped {
		drop, add := e.state.changes(e.cfg.ID)
		if err := nft.Replace(drop, add); err != nil {
			klog.FromContext(e.run).V(2).Info("Writing all network policies, as a change of them was refused", "reason", err)
			e.state.reshaped = true
		}
	}
	if e.state.reshaped {
		if err := nft.Write(tables()...); err != nil {
			return err
		}
	}
	e.state.flushed()
	e.swept = true
	return nil
}

// checkTables has the tables written again where another program deleted one.
func (e *Enforcer) checkTables(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == nil {
		return
	}
	if there, err := nft.Exist(e.state.tables(e.cfg.ID, e.cfg.Network.PortGroup())...); err == nil && there {
		return
	}
	klog.FromContext(ctx).Info("A table of the network policies was deleted from nftables by another program; restoring it", "table", tableName(e.cfg.ID))
	e.state.reshaped = true
}

// readyWithin is how long a Pod's start waits for the policies to be known and written before it fails, to be tried again.
const readyWithin = 10 * time.Second

// Ready returns when the policies that select the Pod are in force for its sandbox, and the Pod's addresses are among the peers of
// those that allow it. Its containers may be started then. While the cluster has no policy that takes no more than a look for one,
// for every sandbox once.
//
// Policies are those that the API server had when Ready was called, not what the watch had brought. A static Pod does not wait for
// an API server that cannot be reached: it starts under the policies known by then, and all others when they are.
func (e *Enforcer) Ready(ctx context.Context, pod *corev1.Pod, sandbox string) error {
	if pod.Spec.HostNetwork || e.confirms.has(sandbox) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	static := podutil.IsStatic(pod)
	if static && !e.policies.synced() {
		return nil
	}
	if err := e.policies.caughtUp(ctx, pod.Namespace, e.await); err != nil && !static {
		return fmt.Errorf("find out which network policies select the pod: %w", err)
	}
	var err error
	done := e.await(ctx, func() bool {
		var ready bool
		ready, err = e.admitLocked(pod, sandbox)
		return ready || err != nil
	})
	if err == nil {
		err = done
	}
	if err != nil {
		return fmt.Errorf("put the network policies of the pod in force: %w", err)
	}
	e.confirms.add(sandbox, e.cfg.Network)
	return nil
}

// admitLocked writes the Pod's part, and reports whether it is written.
func (e *Enforcer) admitLocked(pod *corev1.Pod, sandbox string) (bool, error) {
	if e.run == nil {
		return false, nil
	}
	uid := sandboxUID(pod)
	if e.early != nil && e.pods[uid] == nil {
		e.early[uid] = strip(pod)
	}
	if err := e.processLocked(); err != nil {
		return false, err
	}
	if e.objects == nil {
		return e.policies.synced(), nil
	}
	if e.state == nil || e.early == nil {
		return false, nil
	}
	if e.pods[uid] == nil && e.early[uid] == nil {
		// The sources were just started.
		e.early[uid] = strip(pod)
		if err := e.processLocked(); err != nil {
			return false, err
		}
	}
	if e.state == nil || !e.state.isolated(uid) {
		return e.state != nil, nil
	}
	for _, s := range e.local[uid] {
		if s.ID == sandbox {
			return true, forgetFlows(s.IPs)
		}
	}
	return false, errors.New("the sandbox has no addresses of the built-in network")
}

// await returns nil when ready, which it calls under the lock, is true: now, or after something changed.
func (e *Enforcer) await(ctx context.Context, ready func() bool) error {
	for {
		e.mu.Lock()
		done := ready()
		moved := e.moved
		e.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
