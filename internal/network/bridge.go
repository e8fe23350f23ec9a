package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxLinkName is the longest name a link may have.
const maxLinkName = 15

// bridgeName is the name of the node's bridge: its ID, or a short form of it where that is too long for a link.
func bridgeName(id string) string {
	if len(id) <= maxLinkName {
		return id
	}
	return "podium" + shortHash(id, maxLinkName-len("podium"))
}

// BridgeGroup is the device group of the bridges of all nodes of a machine: rules know by it what comes from another
// node's Pods.
const BridgeGroup = 0x10b41d6e

// bridge is the node's end of all its Pods' links.
type bridge struct {
	name  string
	cidrs []netip.Prefix
	mtu   int
}

// ensure makes the bridge what it must be, whatever is there of it, and returns its index. keep says of an
// address of the bridge that the configuration no longer names whether Pods still use it as their gateway.
func (b *bridge) ensure(h *netlink.Handle, keep func(netip.Prefix) bool) (index int, err error) {
	link, err := h.LinkByName(b.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		link, err = b.create(h)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, b.yield(h, link)) }()
	}
	if err != nil {
		return 0, fmt.Errorf("look for the bridge %s: %w", b.name, err)
	}
	if link.Type() != "bridge" {
		return 0, fmt.Errorf("the link %s is a %s, not Podium's bridge: rename or delete it", b.name, link.Type())
	}
	if link.Attrs().Group != BridgeGroup {
		if err := h.LinkSetGroup(link, BridgeGroup); err != nil {
			return 0, fmt.Errorf("set the device group of the bridge %s: %w", b.name, err)
		}
	}
	if err := b.address(h, link, keep); err != nil {
		return 0, err
	}
	if err := b.floodMulticast(h, link); err != nil {
		return 0, err
	}
	if err := b.settle(); err != nil {
		return 0, err
	}
	if err := h.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("set the bridge %s up: %w", b.name, err)
	}
	return link.Attrs().Index, nil
}

// create makes the bridge. Its MAC is fixed: left to itself a bridge takes the lowest of its ports', and would
// change it, to the confusion of all Pods, as Pods come and go.
func (b *bridge) create(h *netlink.Handle) (netlink.Link, error) {
	for _, p := range b.cidrs {
		if name, _, err := overlappingLink(h, p, b.name); err != nil {
			return nil, err
		} else if name != "" {
			return nil, b.taken(p, name)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = b.name, b.mtu
	attrs.HardwareAddr = hardwareAddr(gatewayOf(b.cidrs[0]))
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make the bridge %s: %w (is the kernel's bridge module there?)", b.name, err)
	}
	link, err := h.LinkByName(b.name)
	if err != nil {
		return nil, fmt.Errorf("look for the bridge %s just made: %w", b.name, err)
	}
	return link, nil
}

// yield takes a bridge just made away again when another node of this machine, started at the same time, took the same
// range and was the first.
func (b *bridge) yield(h *netlink.Handle, link netlink.Link) error {
	for _, p := range b.cidrs {
		name, index, err := overlappingLink(h, p, b.name)
		if err != nil {
			return err
		}
		if name != "" && index < link.Attrs().Index {
			return errors.Join(b.taken(p, name), delLink(b.name))
		}
	}
	return nil
}

// ErrRangeTaken is that a Pod range is in use by another link of the machine.
var ErrRangeTaken = errors.New("the Pod range is in use")

// rangeTaken says which range is in use, and by what.
type rangeTaken struct{ bridge, cidr, by string }

func (e *rangeTaken) Error() string {
	return fmt.Sprintf("make the bridge %s: the Pod range %s is in use on the link %s: give another with --pod-cidr", e.bridge, e.cidr, e.by)
}

func (e *rangeTaken) Is(target error) bool { return target == ErrRangeTaken }

func (b *bridge) taken(p netip.Prefix, by string) error {
	return &rangeTaken{bridge: b.name, cidr: p.String(), by: by}
}

// address gives the bridge the gateway's addresses and takes away what an earlier configuration left.
func (b *bridge) address(h *netlink.Handle, link netlink.Link, keep func(netip.Prefix) bool) error {
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of the bridge %s: %w", b.name, err)
	}
	want := map[netip.Addr]netip.Prefix{}
	for _, p := range b.cidrs {
		want[gatewayOf(p)] = p
	}
	for i := range have {
		a, ok := netip.AddrFromSlice(have[i].IP)
		if a = a.Unmap(); !ok || a.IsLinkLocalUnicast() {
			continue
		}
		p, _ := prefixOf(have[i].IPNet)
		if w, ok := want[a]; ok && w.Masked() == p {
			delete(want, a)
			continue
		}
		if keep(p) {
			continue
		}
		if err := h.AddrDel(link, &have[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s from the bridge %s: %w", p, b.name, err)
		}
	}
	for gw, p := range want {
		// A duplicate is looked for by nobody: without it the address is usable at once.
		addr := &netlink.Addr{IPNet: ipNet(gw, p.Bits()), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give the bridge %s the address %s: %w", b.name, gw, err)
		}
	}
	return nil
}

// floodMulticast has the bridge pass multicast to all ports, as it does anyway where nobody queries for members: what it
// learned of members and routers otherwise would be what Pods tell it.
func (b *bridge) floodMulticast(h *netlink.Handle, link netlink.Link) error {
	if br, ok := link.(*netlink.Bridge); ok && br.MulticastSnooping != nil && !*br.MulticastSnooping {
		return nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = b.name, link.Attrs().Index
	// A kernel that cannot snoop (no CONFIG_BRIDGE_IGMP_SNOOPING) refuses the setting, and needs it not.
	if err := h.LinkModify(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn off multicast snooping on the bridge %s: %w", b.name, err)
	}
	return nil
}

// settle sets what only sysctl can.
func (b *bridge) settle() error {
	// No Pod tells the node its routes, by redirects or, in IPv6, by advertisements; and the node, which routes between Pods of
	// one link, tells none of them a shorter way. A machine without IPv6 has no settings of it.
	settings := [][2]string{{"ipv4", "accept_redirects=0"}, {"ipv4", "send_redirects=0"}, {"ipv6", "accept_ra=0"}, {"ipv6", "accept_redirects=0"}}
	for _, p := range b.cidrs {
		if p.Addr().Is6() {
			// The bridge's own address needs no second in which nothing is forwarded to the first Pod.
			settings = append(settings, [2]string{"ipv6", "accept_dad=0"})
		} else {
			// Lets the node itself reach host ports, and Pods an API server, on 127.0.0.1; rules keep the Pods from all
			// else there.
			settings = append(settings, [2]string{"ipv4", "route_localnet=1"})
		}
	}
	for _, s := range settings {
		if s[0] == "ipv6" && !hasIPv6() {
			continue
		}
		name, value, _ := strings.Cut(s[1], "=")
		if err := setSysctl(s[0]+"/conf/"+b.name+"/"+name, value); err != nil {
			return err
		}
	}
	return nil
}

// overlappingLink names a link, other than except, with an address in p; "" when there is none.
func overlappingLink(h *netlink.Handle, p netip.Prefix, except string) (name string, index int, err error) {
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return "", 0, fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range addrs {
		q, ok := prefixOf(a.IPNet)
		if !ok || !q.Overlaps(p) {
			continue
		}
		link, err := h.LinkByIndex(a.LinkIndex)
		if err == nil && link.Attrs().Name != except {
			return link.Attrs().Name, a.LinkIndex, nil
		}
	}
	return "", 0, nil
}

// uplinkMTU is the MTU of the link with the default route, or 1500.
func uplinkMTU(h *netlink.Handle) int {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			continue
		}
		for _, r := range routes {
			if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
				continue
			}
			if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
				return link.Attrs().MTU
			}
		}
	}
	return 1500
}
