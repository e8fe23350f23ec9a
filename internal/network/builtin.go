package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/nft"
)

// builtin is Podium's own network: a bridge, a pair of links a Pod, addresses from the ledger, rules.
type builtin struct {
	cfg    Config
	ledger *ledger
	h      *netlink.Handle
	rules  *rules
	guard  *guard
	bridge *bridge

	mu    sync.Mutex
	index int   // of the bridge; 0 while there is none
	err   error // why there is none

	// tables orders changes of the nftables tables, so that tables and ledger agree. It guards rules.own.
	tables sync.Mutex
}

func newBuiltin(cfg Config, l *ledger) (*builtin, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	mtu := cfg.MTU
	if mtu == 0 {
		mtu = uplinkMTU(h)
	}
	name := bridgeName(cfg.Paths.ID)
	g := newGuard(cfg.Paths.ID, cfg.PodCIDRs)
	return &builtin{
		cfg: cfg, ledger: l, h: h,
		bridge: &bridge{name: name, cidrs: cfg.PodCIDRs, mtu: mtu},
		guard:  g,
		rules: &rules{
			table: cfg.Paths.ID, bridge: name, group: g.group, own: cfg.Own, cidrs: cfg.PodCIDRs, cluster: cfg.ClusterCIDRs,
			service: cfg.ServiceIP, api: cfg.APIServer,
		},
	}, nil
}

// ensure makes bridge and rules, whatever is there of them; force does so even when they were made before.
func (b *builtin) ensure(force bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index != 0 && !force {
		return nil
	}
	b.index, b.err = 0, nil
	index, err := b.make()
	if err != nil {
		b.err = err
		return err
	}
	b.index = index
	return nil
}

func (b *builtin) make() (index int, err error) {
	if len(b.cfg.PodCIDRs) == 0 {
		return 0, errors.New("the node has no range of Pod addresses: give one with --pod-cidr")
	}
	var v4, v6 bool
	for _, p := range b.cfg.PodCIDRs {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	if err := enableForwarding(v4, v6); err != nil {
		return 0, err
	}
	if index, err = b.bridge.ensure(b.h, b.inUse); err != nil {
		return 0, err
	}
	if err := b.claimPorts(index); err != nil {
		return 0, err
	}
	link, err := b.h.LinkByIndex(index)
	if err != nil {
		return 0, fmt.Errorf("look for the bridge %s: %w", b.bridge.name, err)
	}
	b.setRouter(link.Attrs().HardwareAddr)
	if err := b.writeTables(); err != nil {
		return 0, err
	}
	return index, b.serviceRoute(index)
}

// specsLocked are the tables as they must be now.
func (b *builtin) specsLocked() []nft.Table {
	var recs []*record
	for _, r := range b.ledger.all() {
		if r.CNI == "" && !r.leaving {
			recs = append(recs, r)
		}
	}
	return []nft.Table{b.rules.spec(b.allTargets("")), b.guard.spec(recs)}
}

func (b *builtin) writeTables() error {
	b.tables.Lock()
	defer b.tables.Unlock()
	return nft.Write(b.specsLocked()...)
}

func (b *builtin) setRouter(mac net.HardwareAddr) {
	b.tables.Lock()
	defer b.tables.Unlock()
	b.guard.router = mac
}

// serviceOnly is the table where CNI serves the Pods: the way to the API server's Service.
func (b *builtin) serviceOnly() nft.Table {
	b.tables.Lock()
	defer b.tables.Unlock()
	r := *b.rules
	r.bridge = ""
	return r.spec(nil)
}

// tablesThere reports whether all tables are there.
func (b *builtin) tablesThere() (bool, error) {
	b.tables.Lock()
	defer b.tables.Unlock()
	return nft.Exist(b.specsLocked()...)
}

// claimPorts gives the ports of the bridge that an earlier version of the node made their device group.
func (b *builtin) claimPorts(index int) error {
	links, err := whole(b.h.LinkList)
	if err != nil {
		return fmt.Errorf("list the machine's links: %w", err)
	}
	for _, l := range links {
		if a := l.Attrs(); a.MasterIndex == index && l.Type() == "veth" && a.Group != b.guard.group {
			if err := b.h.LinkSetGroup(l, int(b.guard.group)); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("set the device group of the link %s: %w", a.Name, err)
			}
		}
	}
	return nil
}

// serviceRoute gives the node itself a way to the Service's address where it has none: without any route a packet
// does not get as far as the rule that translates it.
func (b *builtin) serviceRoute(index int) error {
	if !b.cfg.ServiceIP.IsValid() {
		return nil
	}
	ip := b.cfg.ServiceIP
	if _, err := b.h.RouteGet(ip.AsSlice()); err == nil {
		return nil
	}
	route := &netlink.Route{LinkIndex: index, Dst: ipNet(ip, ip.BitLen()), Scope: netlink.SCOPE_LINK}
	if err := b.h.RouteAdd(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give the node a route to the Service address %s: %w", ip, err)
	}
	return nil
}

// inUse reports whether a sandbox has an address of p.
func (b *builtin) inUse(p netip.Prefix) bool {
	for _, r := range b.ledger.all() {
		for _, ip := range r.IPs {
			if r.CNI == "" && p.Contains(ip) {
				return true
			}
		}
	}
	return false
}

// allTargets is every host port of every sandbox but one.
func (b *builtin) allTargets(except string) []portTarget {
	var out []portTarget
	for _, r := range b.ledger.all() {
		if r.CNI == "" && r.ID != except && !r.leaving {
			out = append(out, targets(r.IPs, r.Ports)...)
		}
	}
	return out
}

// setup is Setup for a sandbox of the built-in network; old is its record, nil for a new one.
func (b *builtin) setup(_ context.Context, req Request, old *record) (*record, error) {
	if err := b.ensure(false); err != nil {
		return nil, err
	}
	ports, err := hostPortsOf(req.PortMappings)
	if err != nil {
		return nil, err
	}
	if err := b.refuseOwn(ports); err != nil {
		return nil, err
	}
	bw, err := bandwidthOf(req)
	if err != nil {
		return nil, err
	}
	rec := &record{ID: req.ID, Namespace: req.Namespace, Name: req.Name, UID: req.UID, NetNS: req.NetNSPath, Ports: ports, Bandwidth: bw}
	if old != nil {
		rec.IPs, rec.done = old.IPs, old.done && old.NetNS == rec.NetNS
	}
	if len(rec.IPs) == 0 {
		for _, p := range b.cfg.PodCIDRs {
			ip, err := b.ledger.allocate(rec.ID, p)
			if err != nil {
				return rec, err
			}
			rec.IPs = append(rec.IPs, ip)
		}
	}
	if rec.done && slices.Equal(old.Ports, ports) && old.Bandwidth == bw {
		return rec, nil
	}
	if err := b.ledger.put(rec); err != nil {
		return rec, err
	}
	return rec, b.build(rec, old)
}

// build makes in the kernel what the record says, links and rules at the same time: until the rules are there, the link
// lets nothing through.
func (b *builtin) build(rec, old *record) error {
	opened := make(chan error, 1)
	go func() { opened <- b.setRules(rec, old) }()
	var err error
	if !rec.done || rec.Bandwidth != old.Bandwidth {
		err = b.connect(rec, old)
	}
	if err = errors.Join(err, <-opened); err != nil {
		return err
	}
	rec.done = true
	return b.ledger.settle(rec.ID)
}

// connect links the sandbox to the bridge. A bridge that somebody deleted is made again.
func (b *builtin) connect(rec, old *record) error {
	ns, err := openNetNS(rec.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := b.pair(rec, ns); err != nil {
		return err
	}
	var had Bandwidth
	if old != nil {
		had = old.Bandwidth
	}
	spec := insideSpec{hadEgress: had.Egress, egress: rec.Bandwidth.Egress}
	for _, ip := range rec.IPs {
		spec.addrs = append(spec.addrs, netip.PrefixFrom(ip, b.prefixLen(ip)))
	}
	if err := setInside(ns, spec); err != nil {
		return err
	}
	return b.portOfBridge(rec, had)
}

func (b *builtin) pair(rec *record, ns netns.NsHandle) error {
	v := vethSpec{host: hostLink(rec.ID), group: b.guard.group, mtu: b.bridge.mtu, mac: hardwareAddr(rec.IPs[0]), netns: int(ns)}
	for attempt := 0; ; attempt++ {
		v.master = b.bridgeIndex()
		err := addVeth(v)
		switch {
		case err == nil:
			return nil
		case attempt > 0:
			return fmt.Errorf("link the sandbox to the bridge %s: %w", b.bridge.name, err)
		case errors.Is(err, unix.EEXIST):
			// From an earlier try: kept when it leads into this very sandbox, else made again.
			if hasLink(ns, podLink) {
				return nil
			}
			if err := delLink(v.host); err != nil {
				return err
			}
		default:
			if err := b.ensure(true); err != nil {
				return err
			}
		}
	}
}

// portOfBridge settles the node's end of the link. To ask for a link makes the kernel act on what it knows of its
// carrier (since Linux 6.7) instead of a little later; without it the Pod's first packet could be lost, and resolving
// the gateway's address would then take a second. So the bridge, which has a carrier only when a port has, is asked
// for after its port.
func (b *builtin) portOfBridge(rec *record, had Bandwidth) error {
	link, err := b.h.LinkByName(hostLink(rec.ID))
	if err != nil {
		return fmt.Errorf("look for the node's end of the sandbox's link: %w", err)
	}
	if _, err := b.h.LinkByIndex(link.Attrs().MasterIndex); err != nil {
		return fmt.Errorf("look for the bridge of the sandbox's link: %w", err)
	}
	if err := b.h.LinkSetHairpin(link, true); err != nil {
		return fmt.Errorf("let the sandbox reach itself by a host port: %w", err)
	}
	return limit(b.h, link, had.Ingress, rec.Bandwidth.Ingress)
}

// setRules lets the sandbox send, closes the ports it had and no longer asks for, and opens those it asks for.
func (b *builtin) setRules(rec, old *record) error {
	b.tables.Lock()
	defer b.tables.Unlock()
	if !rec.done {
		if err := b.guard.admit(rec); err != nil {
			return err
		}
	}
	want := targets(rec.IPs, rec.Ports)
	if old != nil {
		if err := b.closePortsLocked(old, want); err != nil {
			return err
		}
	}
	if len(want) == 0 {
		return nil
	}
	if err := b.rules.open(want); err != nil {
		return err
	}
	return forgetFlows(b.h, want)
}

// closePortsLocked closes the sandbox's ports but those in keep; one that another sandbox has too goes on to that.
func (b *builtin) closePortsLocked(rec *record, keep []portTarget) error {
	gone := targets(rec.IPs, rec.Ports)
	taken := append(b.allTargets(rec.ID), keep...)
	var shut, pass []portTarget
	for _, p := range gone {
		successor := false
		for _, t := range taken {
			if t.hostPort.sameOnHost(p.hostPort) && t.to.Is4() == p.to.Is4() {
				successor, pass = true, append(pass, t)
				break
			}
		}
		if !successor {
			shut = append(shut, p)
		}
	}
	return errors.Join(b.rules.close(shut), b.rules.open(pass), forgetFlows(b.h, shut))
}

// teardown takes away what the sandbox has in the kernel. Everything is tried.
func (b *builtin) teardown(rec *record) error {
	cut := make(chan error, 1)
	go func() { cut <- delLink(hostLink(rec.ID)) }()
	return errors.Join(b.clearRules(rec), <-cut)
}

// clearRules takes the sandbox out of the tables, so that a later writing of them leaves it out too.
func (b *builtin) clearRules(rec *record) error {
	b.tables.Lock()
	defer b.tables.Unlock()
	b.ledger.leave(rec.ID)
	var err error
	if len(rec.Ports) > 0 {
		err = b.closePortsLocked(rec, nil)
	}
	return errors.Join(err, b.guard.dismiss(rec))
}

// strays deletes links on the bridge that belong to no record: of sandboxes whose record a power cut took.
func (b *builtin) strays() error {
	links, err := whole(b.h.LinkList)
	if err != nil {
		return fmt.Errorf("list the machine's links: %w", err)
	}
	known := map[string]bool{}
	for _, r := range b.ledger.all() {
		known[hostLink(r.ID)] = true
	}
	index := b.bridgeIndex()
	var errs []error
	for _, l := range links {
		if a := l.Attrs(); index != 0 && a.MasterIndex == index && l.Type() == "veth" && !known[a.Name] {
			errs = append(errs, delLink(a.Name))
		}
	}
	return errors.Join(errs...)
}

func (b *builtin) bridgeIndex() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.index
}

// prefixLen is the length of the Pod range that ip is of; a single address when the range is no longer configured.
func (b *builtin) prefixLen(ip netip.Addr) int {
	for _, p := range b.cfg.PodCIDRs {
		if p.Contains(ip) {
			return p.Bits()
		}
	}
	return ip.BitLen()
}

func hasLink(ns netns.NsHandle, name string) bool {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer h.Close()
	_, err = h.LinkByName(name)
	return err == nil
}
