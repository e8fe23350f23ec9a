package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/nft"
)

var toAll = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// village is a node with an attacker and a victim.
type village struct {
	n                        *Network
	attackerNS, victimNS     string
	attacker, victim, bridge *wire
	// addresses of each, of both families, and the link-local ones
	a4, v4, g4, a6, v6, aLL, vLL, gLL string
	sent                              int
}

func newVillage(t *testing.T) *village {
	t.Helper()
	needRoot(t)
	n := newNetwork(t, func(c *Config) { c.PodCIDRs = prefixes("10.244.7.0/24", "fd00:10:244:7::/64") })
	v := &village{n: n, g4: "10.244.7.1"}
	var a, b []netip.Addr
	v.attackerNS, a = pod(t, n, "attacker")
	v.victimNS, b = pod(t, n, "victim")
	v.a4, v.a6, v.v4, v.v6 = a[0].String(), a[1].String(), b[0].String(), b[1].String()
	v.attacker, v.victim = tap(t, v.attackerNS, podLink), tap(t, v.victimNS, podLink)
	v.bridge = tap(t, ownNS, n.builtin.bridge.name)
	v.aLL, v.vLL, v.gLL = linkLocalOf(v.attacker.mac).String(), linkLocalOf(v.victim.mac).String(), linkLocalOf(v.bridge.mac).String()
	return v
}

// reaches sends a frame and reports whether the victim or the node gets it.
func (v *village) reaches(t *testing.T, mark string, frames ...[]byte) bool {
	t.Helper()
	v.sent++
	for _, f := range frames {
		v.attacker.send(t, f)
	}
	fence := fmt.Sprintf("<fence-%d>", v.sent)
	v.attacker.send(t, frame(toAll, v.attacker.mac, etherIP4, ip4(v.a4, "10.244.7.255", unix.IPPROTO_UDP, 0, udp(9, 9, fence))))
	victim, bridge := v.victim.seesBefore(t, mark, fence), v.bridge.seesBefore(t, mark, fence)
	return victim || bridge
}

// attack is frames of which neither the victim nor the node may get the one with the mark.
type attack struct {
	name   string
	frames func(mark string) [][]byte
}

func (v *village) attacks() []attack {
	me, you, node := v.attacker.mac, v.victim.mac, v.bridge.mac
	one := func(to, from net.HardwareAddr, kind uint16, payload func(mark string) []byte) func(string) [][]byte {
		return func(mark string) [][]byte { return [][]byte{frame(to, from, kind, payload(mark))} }
	}
	from4 := func(ip string, to net.HardwareAddr, at string) func(string) [][]byte {
		return one(to, me, etherIP4, func(m string) []byte { return ip4(ip, at, unix.IPPROTO_UDP, 0, udp(9, 9, m)) })
	}
	from6 := func(ip string, next byte, head ...byte) func(string) [][]byte {
		return one(toAll, me, etherIP6, func(m string) []byte { return ip6(ip, "ff02::1", next, head, []byte(m)) })
	}
	nd := func(from string, kind byte, target string) func(string) [][]byte {
		return one(toAll, me, etherIP6, func(m string) []byte {
			return ip6(from, "ff02::1", unix.IPPROTO_ICMPV6, icmp6(kind, target, m))
		})
	}
	arps := func(op byte, mac net.HardwareAddr, ip string) func(string) [][]byte {
		return one(toAll, me, etherARP, func(m string) []byte { return arp(op, mac, ip, v.v4, m) })
	}
	// A router advertisement behind headers: what comes before it, and the type of the first.
	behind := func(first byte, head ...byte) func(string) [][]byte {
		return one(toAll, me, etherIP6, func(m string) []byte { return ip6(v.aLL, "ff02::1", first, head, icmp6(134, "", m)) })
	}
	const hop, dest, frag = unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT
	pad := []byte{1, 4, 0, 0, 0, 0}
	return []attack{
		{"another Pod's address, to the node", from4(v.v4, node, v.g4)},
		{"another Pod's address, to all", from4("10.244.7.77", toAll, "10.244.7.255")},
		{"the node's address", from4(v.g4, you, v.v4)},
		{"loopback, to the node", from4("127.0.0.1", node, v.g4)},
		{"loopback, to a Pod", from4("127.0.0.1", you, v.v4)},
		{"an address elsewhere", from4("192.0.2.9", node, v.g4)},
		{"no address", from4("0.0.0.0", toAll, "255.255.255.255")},
		{"broadcast", from4("255.255.255.255", node, v.g4)},
		{"multicast", from4("224.0.0.1", node, v.g4)},
		{"fragments from another's address", func(m string) [][]byte {
			const more = 1 << 13
			return [][]byte{
				frame(node, me, etherIP4, ip4(v.v4, v.g4, unix.IPPROTO_UDP, more, udp(9, 9, "________"))),
				frame(node, me, etherIP4, ip4(v.v4, v.g4, unix.IPPROTO_UDP, 2, []byte(m))),
			}
		}},
		{"another Pod's MAC", one(node, you, etherIP4, func(m string) []byte { return ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m)) })},
		{"another Pod's MAC and address", one(node, you, etherIP4, func(m string) []byte { return ip4(v.v4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m)) })},
		{"the node's MAC", one(toAll, node, etherIP4, func(m string) []byte { return ip4(v.a4, "10.244.7.255", unix.IPPROTO_UDP, 0, udp(9, 9, m)) })},
		{"an ARP reply for the node", arps(2, me, v.g4)},
		{"an ARP request in the node's name", arps(1, me, v.g4)},
		{"an ARP reply for a Pod", arps(2, me, v.v4)},
		{"an ARP reply with another's MAC", arps(2, you, v.a4)},
		{"an ARP reply for no address", arps(2, me, "0.0.0.0")},
		{"an inverse ARP reply", arps(9, me, v.a4)},
		{"ARP from another's MAC", one(toAll, you, etherARP, func(m string) []byte { return arp(1, me, v.a4, v.v4, m) })},
		{"RARP", one(toAll, me, 0x8035, func(m string) []byte { return arp(3, me, v.a4, v.v4, m) })},
		{"a VLAN tag", one(toAll, me, 0x8100, func(m string) []byte {
			return append([]byte{0, 5, 8, 0}, ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m))...)
		})},
		{"a priority tag, another's address", one(toAll, me, 0x8100, func(m string) []byte {
			return append([]byte{0, 0, 8, 0}, ip4(v.v4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m))...)
		})},
		{"two VLAN tags", one(toAll, me, 0x88a8, func(m string) []byte {
			return append([]byte{0, 5, 0x81, 0, 0, 6, 8, 0}, ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m))...)
		})},
		{"a BPDU", one(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, me, 38, func(m string) []byte { return append([]byte{0x42, 0x42, 3, 0, 0, 0, 0}, m...) })},
		{"LLC", one(toAll, me, 20, func(m string) []byte { return append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, m...) })},
		{"PPPoE discovery", one(toAll, me, 0x8863, func(m string) []byte { return []byte(m) })},
		{"a type nobody knows", one(toAll, me, 0x1234, func(m string) []byte { return []byte(m) })},
		{"an answer of DHCP", one(toAll, me, etherIP4, func(m string) []byte { return ip4(v.a4, "255.255.255.255", unix.IPPROTO_UDP, 0, udp(67, 68, m)) })},
		{"an answer of DHCP, to the node alone", one(node, me, etherIP4, func(m string) []byte { return ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(67, 68, m)) })},
		{"an IGMP query", one(toAll, me, etherIP4, func(m string) []byte {
			return ip4(v.a4, "224.0.0.1", unix.IPPROTO_IGMP, 0, []byte{igmpQuery, 0, 0, 0, 0, 0, 0, 0}, []byte(m))
		})},
		{"another Pod's IPv6 address", from6(v.v6, 59)},
		{"another Pod's link-local address", from6(v.vLL, 59)},
		{"the node's link-local address", from6(v.gLL, 59)},
		{"the IPv6 loopback", from6("::1", 59)},
		{"no IPv6 address", from6("::", 59)},
		{"an answer of DHCPv6", one(toAll, me, etherIP6, func(m string) []byte { return ip6(v.aLL, "ff02::1", unix.IPPROTO_UDP, udp(547, 546, m)) })},
		{"a router advertisement", nd(v.aLL, 134, "")},
		{"a router advertisement from the Pod's address", nd(v.a6, 134, "")},
		{"a router advertisement in the node's name", nd(v.gLL, 134, "")},
		{"a router advertisement behind options", behind(hop, append([]byte{dest, 0}, append(pad, append([]byte{unix.IPPROTO_ICMPV6, 0}, pad...)...)...)...)},
		{"a router advertisement in a first fragment", behind(frag, unix.IPPROTO_ICMPV6, 0, 0, 1, 0, 0, 0, 1)},
		{"a router advertisement whose type is in a later fragment", one(toAll, me, etherIP6, func(m string) []byte {
			return ip6(v.aLL, "ff02::1", frag, []byte{dest, 0, 0, 1, 0, 0, 0, 2, unix.IPPROTO_ICMPV6, 9, 1, 4}, []byte(m))
		})},
		{"a router solicitation", nd(v.aLL, 133, "")},
		{"a redirect", nd(v.aLL, 137, v.v6)},
		{"an MLD query", nd(v.aLL, 130, "::")},
		{"a multicast router's advertisement", nd(v.aLL, 151, "")},
		{"a neighbour advertisement for a Pod", nd(v.a6, icmp6Advertise, v.v6)},
		{"a neighbour advertisement for the node", nd(v.aLL, icmp6Advertise, v.gLL)},
		{"a neighbour advertisement from another's address", nd(v.v6, icmp6Advertise, v.a6)},
		{"a neighbour solicitation from another's address", nd(v.v6, icmp6Solicit, v.g6())},
		{"a claim that another's address is taken", nd("::", icmp6Solicit, v.v6)},
		{"an echo request from another's address", nd(v.v6, 128, "")},
		{"an unreachable error in another's name", nd(v.v6, 1, "")},
	}
}

func (v *village) g6() string { return "fd00:10:244:7::1" }

// honest are frames that any Pod may send.
func (v *village) honest() []attack {
	me, you, node := v.attacker.mac, v.victim.mac, v.bridge.mac
	var all []attack
	add := func(name string, to net.HardwareAddr, kind uint16, payload func(mark string) []byte) {
		all = append(all, attack{name, func(m string) [][]byte { return [][]byte{frame(to, me, kind, payload(m))} }})
	}
	add("UDP to a Pod", you, etherIP4, func(m string) []byte { return ip4(v.a4, v.v4, unix.IPPROTO_UDP, 0, udp(9, 9, m)) })
	add("UDP to the node", node, etherIP4, func(m string) []byte { return ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m)) })
	add("multicast", toAll, etherIP4, func(m string) []byte { return ip4(v.a4, "224.0.0.251", unix.IPPROTO_UDP, 0, udp(5353, 5353, m)) })
	add("DHCP between relay and server", node, etherIP4, func(m string) []byte { return ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(67, 67, m)) })
	add("an IGMP report", toAll, etherIP4, func(m string) []byte {
		return ip4(v.a4, "224.0.0.22", unix.IPPROTO_IGMP, 0, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}, []byte(m))
	})
	add("an ARP request", toAll, etherARP, func(m string) []byte { return arp(1, me, v.a4, v.v4, m) })
	add("an ARP reply", you, etherARP, func(m string) []byte { return arp(2, me, v.a4, v.v4, m) })
	six := func(name, from string, next byte, payload func(m string) []byte) {
		add(name, toAll, etherIP6, func(m string) []byte { return ip6(from, "ff02::1", next, payload(m)) })
	}
	six("UDP over IPv6", v.a6, unix.IPPROTO_UDP, func(m string) []byte { return udp(9, 9, m) })
	six("UDP from the link-local address", v.aLL, unix.IPPROTO_UDP, func(m string) []byte { return udp(9, 9, m) })
	all = append(all, attack{"a ping in fragments", func(m string) [][]byte {
		return [][]byte{
			frame(toAll, me, etherIP6, ip6(v.a6, "ff02::1", unix.IPPROTO_FRAGMENT, []byte{unix.IPPROTO_ICMPV6, 0, 0, 1, 0, 0, 0, 7}, icmp6(128, "", ""))),
			frame(toAll, me, etherIP6, ip6(v.a6, "ff02::1", unix.IPPROTO_FRAGMENT, []byte{unix.IPPROTO_ICMPV6, 0, 0, 8, 0, 0, 0, 7}, []byte(m))),
		}
	}})
	for name, c := range map[string]struct {
		from   string
		kind   byte
		target string
	}{
		"a ping": {v.a6, 128, ""}, "an MLD report": {v.aLL, 143, ""}, "an error": {v.a6, 3, ""},
		"a solicitation": {v.a6, icmp6Solicit, v.v6}, "an advertisement": {v.a6, icmp6Advertise, v.a6},
		"an advertisement of the link-local address": {v.aLL, icmp6Advertise, v.aLL},
		"a test of its own address":                  {"::", icmp6Solicit, v.a6},
	} {
		six(name, c.from, unix.IPPROTO_ICMPV6, func(m string) []byte { return icmp6(c.kind, c.target, m) })
	}
	return all
}

// A Pod sends what it likes: others and the node get only what is in its own name. Without the rules they get it all,
// which shows that each frame is one that a bridge passes.
func TestHostileFrames(t *testing.T) {
	v := newVillage(t)
	for i, h := range v.honest() {
		if m := mark("honest", i); !v.reaches(t, m, h.frames(m)...) {
			t.Errorf("%s does not get through", h.name)
		}
	}
	attacks := v.attacks()
	for i, a := range attacks {
		if m := mark("attack", i); v.reaches(t, m, a.frames(m)...) {
			t.Errorf("%s gets through", a.name)
		}
	}
	check(t, removeGuardOf(v.n))
	check(t, flushChains(v.n.builtin.rules.ref(), "guard"))
	for i, a := range attacks {
		if m := mark("bare", i); !v.reaches(t, m, a.frames(m)...) {
			t.Errorf("%s does not get through without the guard: it is no attack", a.name)
		}
	}
}

// removeGuardOf empties the first chains of the bridge's table, with the table in place.
func removeGuardOf(n *Network) error {
	return flushChains(n.builtin.guard.ref(), "prerouting", "input")
}

func flushChains(table *nftables.Table, chains ...string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for _, name := range chains {
		c.FlushChain(&nftables.Chain{Table: table, Name: name})
	}
	return c.Flush()
}

// Frames to the group addresses that bridges keep to themselves reach the port past the bridge, and with it the node's
// sockets past all rules that name the bridge.
func TestHostileReservedGroupAddress(t *testing.T) {
	v := newVillage(t)
	c, err := net.ListenPacket("udp4", ":7002")
	check(t, err)
	defer c.Close()
	port := tap(t, ownNS, hostLink("attacker"))
	attack := func() bool {
		v.sent++
		text := mark("group", v.sent)
		v.attacker.send(t, frame(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}, v.attacker.mac, etherIP4, ip4(v.v4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 7002, text))))
		port.seesBefore(t, text, text)
		v.attacker.send(t, frame(v.bridge.mac, v.attacker.mac, etherIP4, ip4(v.a4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 7002, "fence"))))
		buf := make([]byte, 100)
		n, _, err := c.ReadFrom(buf)
		check(t, err)
		if string(buf[:n]) == text {
			_, _, err = c.ReadFrom(buf)
			check(t, err)
			return true
		}
		return false
	}
	if attack() {
		t.Error("the node takes a packet in another Pod's name by a reserved group address")
	}
	check(t, removeGuardOf(v.n))
	if attack() {
		t.Error("the rules of the inet family alone do not hold it off")
	}
	check(t, flushChains(v.n.builtin.rules.ref(), "guard"))
	if !attack() {
		t.Error("it is no attack")
	}
}

// What holds Pods off is in force for a Pod that the rules do not know, after a restart, after the tables were deleted,
// and for a Pod that an earlier version of the node linked to the bridge.
func TestHostileGuardStays(t *testing.T) {
	v := newVillage(t)
	spoof := func(n int) bool {
		m := mark("spoof", n)
		return v.reaches(t, m, frame(v.bridge.mac, v.attacker.mac, etherIP4, ip4(v.v4, v.g4, unix.IPPROTO_UDP, 0, udp(9, 9, m))))
	}
	link, err := netlink.LinkByName(hostLink("attacker"))
	check(t, err)
	check(t, netlink.LinkSetGroup(link, 0))
	if !spoof(0) {
		t.Error("a port of no group is held off: this test is of no use")
	}
	v.n.Close()
	again, err := New(v.n.cfg)
	check(t, err)
	if spoof(1) {
		t.Error("after a restart")
	}
	check(t, nft.Remove(again.cfg.Paths.ID))
	eventually(t, "the tables are back", func() bool {
		there, err := again.tablesThere()
		return err == nil && there
	})
	if spoof(2) {
		t.Error("after the tables were deleted")
	}
	again.Close()
	// A daemon that died right here left the Pod a port and no elements; and the attacker's network is gone for the tables.
	check(t, again.builtin.guard.dismiss(&record{ID: "attacker", IPs: []netip.Addr{netip.MustParseAddr(v.a4), netip.MustParseAddr(v.a6)}}))
	m := mark("unknown", 0)
	v.attacker.send(t, frame(toAll, v.attacker.mac, etherIP4, ip4(v.a4, "10.244.7.255", unix.IPPROTO_UDP, 0, udp(9, 9, m))))
	back, err := New(v.n.cfg)
	check(t, err)
	defer back.Close()
	if v.reaches(t, m) {
		t.Error("a port whose Pod the tables do not know")
	}
}

// Nobody takes a route from the link.
func TestHostileAdvertisementsAreNotTaken(t *testing.T) {
	v := newVillage(t)
	for _, at := range []struct{ ns, link string }{{v.victimNS, podLink}, {ownNS, v.n.builtin.bridge.name}} {
		for name, want := range map[string]string{"accept_ra": "0", "addr_gen_mode": "0"} {
			if got := sysctlIn(t, at.ns, "ipv6/conf/"+at.link+"/"+name); got != want {
				t.Errorf("%s: %s is %s", at.link, name, got)
			}
		}
	}
	for _, name := range []string{"ipv6/conf/%s/accept_redirects", "ipv4/conf/%s/accept_redirects"} {
		if got := sysctlIn(t, ownNS, fmt.Sprintf(name, v.n.builtin.bridge.name)); got != "0" {
			t.Errorf("%s is %s", name, got)
		}
	}
	t.Run("IPv4 alone", func(t *testing.T) {
		n := newNetwork(t, func(c *Config) { c.PodCIDRs = prefixes("10.244.8.0/24") })
		if got := sysctlIn(t, ownNS, "ipv6/conf/"+n.builtin.bridge.name+"/accept_ra"); got != "0" {
			t.Errorf("accept_ra is %s", got)
		}
	})
}

// Packets in a Pod's name from elsewhere do not get in.
func TestHostileOutside(t *testing.T) {
	needRoot(t)
	out := outside(t)
	newNetwork(t, nil)
	up, down := tap(t, out, "eth0"), tap(t, ownNS, "uplink")
	c, err := net.ListenPacket("udp4", ":7003")
	check(t, err)
	defer c.Close()
	for _, from := range []string{"10.244.7.9", "192.0.2.1"} {
		up.send(t, frame(down.mac, up.mac, etherIP4, ip4(from, "192.0.2.2", unix.IPPROTO_UDP, 0, udp(9, 7003, from))))
	}
	buf := make([]byte, 100)
	n, _, err := c.ReadFrom(buf)
	check(t, err)
	if got := string(buf[:n]); got != "192.0.2.1" {
		t.Errorf("a packet from %s came in from outside", got)
	}
}

// A host port that is the node's own is refused, and one that a Pod has already does not lead to the Pod: the node's own
// port wins, now and at the next start, when the ledger still has the Pod.
func TestHostileHostPortOfTheNode(t *testing.T) {
	needRoot(t)
	out := outside(t)
	n := newNetwork(t, nil)
	own := []OwnPort{
		{"the API server", netip.MustParseAddrPort("127.0.0.1:7443")},
		{"the node's server", netip.MustParseAddrPort("0.0.0.0:7250")},
	}
	mapping := func(port int32, ip string) *runtimeapi.PortMapping {
		return &runtimeapi.PortMapping{ContainerPort: 80, HostPort: port, HostIp: ip}
	}
	a, _ := pod(t, n, "a", mapping(7443, ""), mapping(7250, "192.0.2.2"), mapping(7251, ""))
	serve(t, a, "a", "tcp", ":80")
	serve(t, ownNS, "api", "tcp4", "127.0.0.1:7443")
	serve(t, ownNS, "node", "tcp4", ":7250")
	wantAnswer(t, ownNS, "tcp", "127.0.0.1:7443", "a from 10.244.7.1") // the fault
	ownWin := func(t *testing.T) {
		wantAnswer(t, ownNS, "tcp", "127.0.0.1:7443", "api from 127.0.0.1")
		wantAnswer(t, out, "tcp", "192.0.2.2:7250", "node from 192.0.2.1")
		wantAnswer(t, out, "tcp", "192.0.2.2:7251", "a from 192.0.2.1")
		// The API listens on 127.0.0.1 alone: elsewhere the port is the Pod's.
		wantAnswer(t, out, "tcp", "192.0.2.2:7443", "a from 192.0.2.1")
	}
	check(t, n.ListenOn(own...))
	ownWin(t)
	for _, m := range []*runtimeapi.PortMapping{mapping(7443, ""), mapping(7443, "127.0.0.1"), mapping(7250, "127.0.0.1"), mapping(7250, "")} {
		_, err := n.Setup(t.Context(), Request{ID: "b", NetNSPath: newNS(t), PortMappings: []*runtimeapi.PortMapping{m}})
		if err == nil || !strings.Contains(err.Error(), "listens there") {
			t.Errorf("host port %v: %v", m, err)
		}
	}
	b, _ := pod(t, n, "b", mapping(7443, "192.0.2.7"), &runtimeapi.PortMapping{ContainerPort: 53, HostPort: 7443, Protocol: runtimeapi.Protocol_UDP})
	serve(t, b, "b", "udp4", ":53")
	wantAnswer(t, ownNS, "udp", "127.0.0.1:7443", "b from 10.244.7.1")
	n.Close()
	n.cfg.Own = own
	again, err := New(n.cfg)
	check(t, err)
	defer again.Close()
	ownWin(t)
}
