package network

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/nft"
)

// guard is the node's table of the bridge family. It holds each Pod to its own addresses, before the bridge learns
// anything of a frame, and hands the packets between Pods to the node. In nft's words:
//
//	table bridge podium {
//	  set senders4 { type ifname . ether_addr . ipv4_addr }
//	  set senders6 { type ifname . ether_addr . ipv6_addr }
//	  chain prerouting { type filter hook prerouting priority -310
//	                     iifgroup GROUP goto port }
//	  chain input      { type filter hook input priority -310
//	                     iifgroup GROUP ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop }
//	  chain port       { ether type ip goto ip4
//	                     ether type arp goto arp
//	                     ether type ip6 goto ip6
//	                     drop }
//	  chain ip4        { udp sport 67 udp dport 68 drop
//	                     igmp type membership-query drop
//	                     iifname . ether saddr . ip saddr @senders4 goto route
//	                     drop }
//	  chain arp        { arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation 1-2
//	                     iifname . ether saddr . arp saddr ip @senders4 iifname . arp saddr ether . arp saddr ip @senders4 accept
//	                     drop }
//	  chain ip6        { udp sport 547 udp dport 546 drop
//	                     meta l4proto icmpv6 goto icmp6
//	                     meta l4proto != icmpv6 iifname . ether saddr . ip6 saddr @senders6 goto route
//	                     drop }
//	  chain icmp6      { (each with: iifname . ether saddr . ip6 saddr @senders6)
//	                     frag frag-off != 0 goto route
//	                     icmpv6 type { 1-4, 128-129, 131-132, 143 } goto route
//	                     icmpv6 type nd-neighbor-solicit accept
//	                     icmpv6 type nd-neighbor-advert iifname . ether saddr . icmpv6 taddr @senders6 accept
//	                     (without it:)
//	                     ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . icmpv6 taddr @senders6 accept
//	                     drop }
//	  chain route      { meta pkttype otherhost ether daddr set ROUTER meta pkttype set host accept
//	                     accept }
//	}
//
// A Pod's port is known by its device group, which the link has from its first moment, so that a Pod whose elements are
// not (or no longer) there sends nothing. What is of no group of ours (another program's bridge) costs one comparison.
//
// What is behind the rules:
//   - VLAN tags (also those that the network card took off), LLC (BPDUs) and all other types of frame end at `port`.
//   - Frames to the reserved group addresses 01:80:c2:00:00:0X are not bridged (IEEE 802.1Q, 8.6.3): the kernel takes them
//     in by the port itself, past prerouting and past all rules that go by the bridge's name. `input` drops them.
//   - Router advertisements and solicitations, redirects and MLD queries are types of ICMPv6 that are not listed.
//   - A packet whose transport header is in a later fragment, or behind a header that the kernel cannot pass over, matches no
//     type and no `l4proto`: it is dropped. Fragments after the first are let through with the right source; they come to
//     nothing without the first.
//   - Servers of DHCP and DHCPv6 answer from ports 67 and 547: nothing on the bridge asks them but perhaps the node.
//   - What a Pod sends to another's MAC is routed by the node (ROUTER is the bridge's MAC), not bridged. So the rules of the
//     inet family see it in both directions, whether or not the kernel has br_netfilter: a Pod that is reached by the address
//     of a Service answers by the node, which translates back, and policies are enforced in the forward hook. Only resolution
//     of addresses and multicast go from Pod to Pod by the bridge.
//   - The address :: is a sender's only to ask whether an address of its own is taken (RFC 4862, 5.4.2).
type guard struct {
	table string
	group uint32
	v6    bool
	// router is the bridge's own MAC.
	router net.HardwareAddr
}

func newGuard(id string, cidrs []netip.Prefix) *guard {
	g := &guard{table: id, group: deviceGroup(id)}
	for _, p := range cidrs {
		g.v6 = g.v6 || p.Addr().Is6()
	}
	return g
}

// deviceGroup is the group of the links of a node's Pods: a number that is not 0, the group of all other links, and
// unlikely to be one that somebody has named in /etc/iproute2/group.
func deviceGroup(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint32(sum[:])&0x3fffffff | 0x40000000
}

// beforeAll is the priority of the guard's chains: before those that translate, -300 in the bridge family
// (NF_BR_PRI_NAT_DST_BRIDGED of linux/netfilter_bridge.h).
const beforeAll = -310

const (
	etherIP4, etherARP, etherIP6 = 0x0800, 0x0806, 0x86dd
	dhcpServer, dhcpClient       = 67, 68
	dhcp6Server, dhcp6Client     = 547, 546
	igmpQuery                    = 0x11
	icmp6Solicit, icmp6Advertise = 135, 136
)

// senderTypes are ranges of the ICMPv6 types that need no more than the Pod's own source address and may be routed: errors
// (1–4), echo (128, 129) and membership of multicast groups (131, 132, 143) (RFC 4443, 3810). Neighbour solicitations
// (RFC 4861) are not routed.
var senderTypes = [][2]byte{{1, 4}, {128, 129}, {131, 132}, {143, 143}}

func (g *guard) ref() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyBridge, Name: g.table}
}

// senders is the set of one family.
func (g *guard) senders(v4 bool) *nftables.Set {
	name, address := "senders6", nftables.TypeIP6Addr
	if v4 {
		name, address = "senders4", nftables.TypeIPAddr
	}
	return &nftables.Set{
		Table: g.ref(), Name: name, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr, address),
	}
}

// changesFor are the elements of a sandbox: by which link, from which MAC and with which addresses it may send.
func (g *guard) changesFor(recs ...*record) []nft.Change {
	v4, v6 := nft.Change{Set: g.senders(true)}, nft.Change{Set: g.senders(false)}
	for _, r := range recs {
		if len(r.IPs) == 0 {
			continue
		}
		port := portKeyOf(hostLink(r.ID), hardwareAddr(r.IPs[0]))
		add := func(c *nft.Change, ip netip.Addr) {
			c.Elements = append(c.Elements, nftables.SetElement{Key: append(append([]byte{}, port...), ip.AsSlice()...)})
		}
		linkLocal := false
		for _, ip := range r.IPs {
			if ip.Is4() {
				add(&v4, ip)
				continue
			}
			add(&v6, ip)
			linkLocal = true
		}
		if linkLocal {
			add(&v6, linkLocalOf(hardwareAddr(r.IPs[0])))
		}
	}
	return []nft.Change{v4, v6}
}

// portKeyOf is the first part of a sender's key: the link's name and the MAC, filled up to whole registers.
func portKeyOf(link string, mac net.HardwareAddr) []byte {
	return append(append(nft.LinkName(link), mac...), 0, 0)
}

// linkLocalOf is the address that the kernel makes of a MAC (RFC 4291, appendix A).
func linkLocalOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// admit lets a sandbox send by its link.
func (g *guard) admit(r *record) error {
	if err := nft.Add(g.changesFor(r)...); err != nil {
		return fmt.Errorf("let the sandbox send from its addresses: %w", err)
	}
	return nil
}

// dismiss ends what admit began.
func (g *guard) dismiss(r *record) error {
	if err := nft.Delete(g.changesFor(r)...); err != nil {
		return fmt.Errorf("let the sandbox send no more from its addresses: %w", err)
	}
	return nil
}

// spec is the whole table, with the elements of these sandboxes.
func (g *guard) spec(recs []*record) nft.Table {
	t := g.ref()
	s := nft.Table{Table: t}
	for _, c := range g.changesFor(recs...) {
		s.Sets = append(s.Sets, nft.Set{Set: c.Set, Elements: c.Elements})
	}
	accept := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook, rules ...[][]expr.Any) {
		ch := &nftables.Chain{Name: name, Table: t}
		if hook != nil {
			ch.Type, ch.Hooknum, ch.Priority, ch.Policy = nftables.ChainTypeFilter, hook, nftables.ChainPriorityRef(beforeAll), &accept
		}
		spec := nft.Chain{Chain: ch}
		for _, parts := range rules {
			spec.Rules = append(spec.Rules, nft.All(parts...))
		}
		s.Chains = append(s.Chains, spec)
	}
	rule := func(parts ...[]expr.Any) [][]expr.Any { return parts }
	drop, pass := nft.Verdict(expr.VerdictDrop, ""), nft.Verdict(expr.VerdictAccept, "")
	goTo := func(name string) []expr.Any { return nft.Verdict(expr.VerdictGoto, name) }

	chain("prerouting", nftables.ChainHookPrerouting, rule(nft.InByGroup(g.group), goTo("port")))
	chain("input", nftables.ChainHookInput, rule(nft.InByGroup(g.group), toReservedGroup(), drop))
	kinds := [][][]expr.Any{rule(nft.EtherType(etherIP4), goTo("ip4")), rule(nft.EtherType(etherARP), goTo("arp"))}
	if g.v6 {
		kinds = append(kinds, rule(nft.EtherType(etherIP6), goTo("ip6")))
	}
	chain("route", nil, rule(toOtherHost(), toRouter(g.router), pass), rule(pass))
	chain("port", nil, append(kinds, rule(drop))...)
	chain("ip4", nil,
		rule(nft.Transport(unix.IPPROTO_UDP), nft.Ports(dhcpServer, dhcpClient), drop),
		rule(nft.Transport(unix.IPPROTO_IGMP), nft.TransportByte(0, igmpQuery, igmpQuery), drop),
		rule(sentBy(true, nft.FromMAC, nft.NetworkBytes(12, 4)), goTo("route")),
		rule(drop))
	chain("arp", nil,
		rule(networkStart(0, 1, 8, 0, 6, 4), // Ethernet, IPv4, and the lengths of their addresses
			nft.NetworkRange(6, []byte{0, 1}, []byte{0, 2}), // request, reply
			sentBy(true, nft.FromMAC, nft.NetworkBytes(14, 4)), sentBy(true, nft.NetworkBytes(8, 6), nft.NetworkBytes(14, 4)), pass),
		rule(drop))
	own, target := sentBy(false, nft.FromMAC, nft.NetworkBytes(8, 16)), sentBy(false, nft.FromMAC, nft.TransportBytes(8, 16))
	chain("ip6", nil,
		rule(nft.Transport(unix.IPPROTO_UDP), nft.Ports(dhcp6Server, dhcp6Client), drop),
		rule(nft.Transport(unix.IPPROTO_ICMPV6), goTo("icmp6")),
		rule(transportKnown(), own, goTo("route")),
		rule(drop))
	icmp6 := [][][]expr.Any{rule(nft.LaterFragment(), own, goTo("route"))}
	for _, r := range senderTypes {
		icmp6 = append(icmp6, rule(nft.TransportByte(0, r[0], r[1]), own, goTo("route")))
	}
	chain("icmp6", nil, append(icmp6,
		rule(nft.TransportByte(0, icmp6Solicit, icmp6Solicit), own, pass),
		rule(nft.TransportByte(0, icmp6Advertise, icmp6Advertise), own, target, pass),
		rule(nft.TransportByte(0, icmp6Solicit, icmp6Solicit), nft.NetworkEquals(8, make([]byte, 16)), target, pass),
		rule(drop))...)
	return s
}

// The expressions of the bridge family: there a packet's protocol is that of its frame.

// toOtherHost matches frames to a MAC that is neither the bridge's nor a group's.
func toOtherHost() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: nft.Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: []byte{unix.PACKET_OTHERHOST}},
	}
}

// toRouter has the bridge hand the frame to the node instead of passing it on.
func toRouter(mac net.HardwareAddr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: nft.Reg, Data: mac},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: nft.Reg, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6},
		&expr.Immediate{Register: nft.Reg, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: nft.Reg},
	}
}

// toReservedGroup matches frames to one of the group addresses that bridges keep to themselves.
func toReservedGroup() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: nft.Reg, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6},
		&expr.Bitwise{SourceRegister: nft.Reg, DestRegister: nft.Reg, Len: 6, Mask: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}, Xor: make([]byte, 6)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: []byte{0x01, 0x80, 0xc2, 0, 0, 0}},
	}
}

// transportKnown matches packets of whose transport protocol the kernel knows that it is not ICMPv6.
func transportKnown() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: nft.Reg},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: []byte{unix.IPPROTO_ICMPV6}},
	}
}

func networkStart(want ...byte) []expr.Any { return nft.NetworkEquals(0, want) }

// sentBy matches packets whose link, MAC and address are one of the senders.
func sentBy(v4 bool, mac, address nft.Part) []expr.Any {
	set := "senders6"
	if v4 {
		set = "senders4"
	}
	const macAt, addressAt = nft.Reg + unix.IFNAMSIZ/4, nft.Reg + unix.IFNAMSIZ/4 + 2 // a MAC takes two registers
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: nft.Reg}, mac(macAt), address(addressAt),
		&expr.Lookup{SourceRegister: nft.Reg, SetName: set},
	}
}
