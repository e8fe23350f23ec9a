// Package services is the part of a node that makes Services reachable: what kube-proxy does in its nftables mode. It
// watches Services and EndpointSlices, computes with pure functions what the node's table of Services must hold
// (elements.go, state.go), and writes the difference (write.go) when something changes. The kernel does the rest: the
// table stays, and works, while no daemon runs. table.go has the layout.
package services

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/nft"
)

// Config is what a Proxy is told.
type Config struct {
	// Client speaks to the API server as system:kube-proxy, which may not be there yet.
	Client kubernetes.Interface
	// ID distinguishes the nodes of one machine.
	ID string
	// Node is the node's name.
	Node string
	// Bridge is the link by which the node's Pods send; "" where another network serves them. Bridges is the device group
	// of the bridges of all nodes of the machine.
	Bridge  string
	Bridges uint32
	// Pods are the ranges of the cluster's Pods, none if they are not known. What comes from elsewhere to a cluster IP gets the
	// node's address.
	Pods []netip.Prefix
	// Own are TCP ports on which the node itself listens; no Service takes them. An unspecified address is all of the node's.
	Own []netip.AddrPort
	// Kept are cluster IPs and ports that other rules of the node serve.
	Kept []netip.AddrPort
	// Clock is the time between tries after an error.
	Clock clock.Clock
}

// tableName is the name of the table of a node.
func tableName(id string) string { return id + "-services" }

// Remove deletes what the Proxy of the node with an ID made on the machine.
func Remove(id string) error { return nft.Remove(tableName(id)) }

// Proxy makes Services reachable. Without a Service but those in Kept it holds one watch and no table.
type Proxy struct {
	c       Config
	table   *table
	wake    chan struct{}
	running sync.WaitGroup

	mu             sync.Mutex
	state          *state
	dirty          map[types.NamespacedName]bool
	servicesSynced bool
	slicesSynced   bool
	slicesStarted  bool
	zoneStarted    bool
	zoneHints      bool // a slice has hints for zones

	// The rest is the loop's own.
	flushed <-chan struct{}
	have    map[string]bool // the shapes whose chains are in the table; nil while it is not known what the table holds
	owed    *changes        // flows to be forgotten once the table is written
	health  healthPorts
}

// New makes a Proxy.
func New(c Config) *Proxy {
	f := facts{kept: c.Kept}
	if len(c.Pods) == 0 {
		_, err := os.Stat("/proc/sys/net/ipv6")
		f.v6 = err == nil
	}
	for _, r := range c.Pods {
		f.v6 = f.v6 || r.Addr().Is6()
	}
	return &Proxy{
		c:     c,
		table: &table{name: tableName(c.ID), bridge: c.Bridge, others: c.Bridges, pods: c.Pods, own: c.Own, v6: f.v6},
		wake:  make(chan struct{}, 1), state: newState(f), dirty: map[types.NamespacedName]bool{}, owed: newChanges(),
	}
}

// Delays between tries to write the table after an error.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
)

// Run works until the context ends. What it has written stays.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.running.Wait()
	defer cancel()
	defer p.health.close()
	p.running.Go(func() { p.followServices(ctx) })
	delay := firstDelay
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.wake:
		case <-again:
		case <-p.flushed:
			if there, err := nft.Exist(nft.Table{Table: p.table.ref()}); err == nil && there || p.have == nil {
				continue
			}
			klog.FromContext(ctx).Info("The Services' nftables table was deleted by another program; restoring it", "table", p.table.name)
			p.have = nil
		}
		again = nil
		if err := p.sync(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Failed to write the Services' rules; trying again", "after", delay)
			again = p.c.Clock.After(delay)
			delay = min(2*delay, lastDelay)
			continue
		}
		delay = firstDelay
	}
}

// sync brings the table up to what is known.
func (p *Proxy) sync(ctx context.Context) error {
	ready, err := p.start(ctx)
	if err != nil || !ready {
		return err
	}
	want, shapes := p.compute()
	if p.have == nil {
		have, err := p.table.reconcile(want(), shapes)
		if err != nil {
			return err
		}
		p.have, p.owed.put, p.owed.drop = have, map[slot]string{}, map[slot]bool{}
	} else if c := p.owed; len(c.put)+len(c.drop) > 0 {
		if err := p.table.write(c, shapes, p.have); err != nil {
			p.have = nil
			klog.FromContext(ctx).Error(err, "A change of the Services' rules failed; writing all of them")
			return p.sync(ctx)
		}
	}
	flows := p.owed.flows
	p.owed = newChanges()
	if err := forgetFlows(flows); err != nil {
		// The flows end by themselves, later.
		klog.FromContext(ctx).Error(err, "Failed to delete the connections of endpoints that are gone")
	}
	return nil
}

// start begins what is needed with the first Service, and reports whether all lists are there.
func (p *Proxy) start(ctx context.Context) (ready bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.servicesSynced {
		return false, nil
	}
	if !p.slicesStarted {
		if !p.neededLocked() {
			// A table of an earlier start has nothing to serve.
			p.dirty = map[types.NamespacedName]bool{}
			return false, Remove(p.c.ID)
		}
		if p.flushed, err = nft.Watch(ctx, p.table.name, &p.running); err != nil {
			return false, err
		}
		p.slicesStarted = true
		p.running.Go(func() { p.followSlices(ctx) })
	}
	if p.zoneHints && !p.zoneStarted {
		p.zoneStarted = true
		p.running.Go(func() { p.followNode(ctx) })
	}
	return p.slicesSynced, nil
}

// neededLocked reports whether a Service has to be served.
func (p *Proxy) neededLocked() bool {
	for _, e := range p.state.services {
		if e.service != nil && len(elementsOf(e.service, nil, p.state.facts, func(string) uint32 { return 0 })) > 0 {
			return true
		}
	}
	return false
}

// compute brings the elements of all changed Services up to date, and what is owed to the table.
func (p *Proxy) compute() (want func() map[slot]string, shapes map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.dirty {
		var service *service
		local := 0
		if e := p.state.services[name]; e != nil && e.service != nil {
			service, local = e.service, localEndpoints(e)
		}
		p.health.set(name, service, local)
		p.state.update(name, p.owed)
	}
	clear(p.dirty)
	return func() map[slot]string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.state.all()
	}, maps.Clone(p.state.shapes)
}

// localEndpoints is how many ready endpoints a Service has on this node.
func localEndpoints(e *entry) int {
	have := map[netip.Addr]bool{}
	for _, s := range e.slices {
		for _, ep := range s.endpoints {
			if ep.local && ep.ready {
				have[ep.addr] = true
			}
		}
	}
	return len(have)
}

func (p *Proxy) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (p *Proxy) putService(o *corev1.Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setServiceLocked(nameOf(o), serviceOf(o))
	p.notify()
}

func (p *Proxy) dropService(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setServiceLocked(name, nil)
	p.notify()
}

func (p *Proxy) setServiceLocked(name types.NamespacedName, s *service) {
	if s == nil && p.state.services[name] == nil {
		return
	}
	p.state.of(name).service = s
	p.dirty[name] = true
}

func (p *Proxy) setServices(all []metav1.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := maps.Clone(p.state.services)
	for _, o := range all {
		name := nameOf(o)
		delete(gone, name)
		p.setServiceLocked(name, serviceOf(o.(*corev1.Service)))
	}
	for name, e := range gone {
		if e.service != nil {
			p.setServiceLocked(name, nil)
		}
	}
	p.servicesSynced = true
	p.notify()
}

func (p *Proxy) putSlice(o *discoveryv1.EndpointSlice, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putSliceLocked(o, there)
	p.notify()
}

func (p *Proxy) putSliceLocked(o *discoveryv1.EndpointSlice, there bool) {
	name, ok := serviceNameOf(o)
	if !ok {
		return
	}
	var s *slice
	if there {
		s = sliceOf(o, p.c.Node)
	}
	if s == nil && p.state.services[name] == nil {
		return
	}
	p.state.of(name).setSlice(o.Name, s)
	p.dirty[name] = true
	p.zoneHints = p.zoneHints || s != nil && slices.ContainsFunc(s.endpoints, func(e endpoint) bool { return len(e.zoneHints) > 0 })
}

func (p *Proxy) setSlices(all []metav1.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, e := range p.state.services {
		if len(e.slices) > 0 {
			e.slices = nil
			p.dirty[name] = true
		}
	}
	for _, o := range all {
		p.putSliceLocked(o.(*discoveryv1.EndpointSlice), true)
	}
	p.slicesSynced = true
	p.notify()
}

// setZone notes the node's zone, on which hints depend.
func (p *Proxy) setZone(zone string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.zone == zone {
		return
	}
	p.state.zone = zone
	for name := range p.state.services {
		p.dirty[name] = true
	}
	p.notify()
}
