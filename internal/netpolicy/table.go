package netpolicy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/nft"
)

// family is an address family, as the names of sets have it.
type family string

const (
	v4 family = "4"
	v6 family = "6"
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// words is how many 32-bit registers an address takes.
func (f family) words() uint32 {
	if f == v4 {
		return 1
	}
	return 4
}

func (f family) is() []expr.Any {
	if f == v4 {
		return nft.OfFamily(netip.IPv4Unspecified())
	}
	return nft.OfFamily(netip.IPv6Unspecified())
}

func (f family) addrType() nftables.SetDatatype {
	if f == v4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// tableName is the name of the tables of a node's policies, one in the inet and one in the bridge family.
func tableName(id string) string { return id + "-policies" }

// Remove deletes what the Enforcer of the node with an ID made on the machine.
func Remove(id string) error { return nft.Remove(tableName(id)) }

// tables are the tables of a state. In nft's words, for IPv4 (the same follows for IPv6), with a policy "web" of the namespace
// "shop" that lets the Pods of one selector in at port 80 and at the port that the Pod names "metrics":
//
//	table inet podium-policies {
//	  map isolated-in4  { type ipv4_addr : verdict }          # the node's Pods that a policy isolates: jump GROUP
//	  map isolated-out4 { type ipv4_addr : verdict }
//	  set peer4-1f…     { type ipv4_addr }                    # one for each selector of peers
//	  set named4-6-metrics { type ipv4_addr . inet_service }  # one for each name of a port
//	  chain egress  { type filter hook forward priority filter
//	                  ct state established,related accept
//	                  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept    # in ingress too
//	                  ip6 daddr fe80::/10 drop
//	                  ip saddr vmap @isolated-out4 }
//	  chain ingress { type filter hook forward priority filter + 1
//	                  ct state established,related accept
//	                  ip daddr vmap @isolated-in4 }
//	  chain group-in-7c… { jump in-shop-web-0b…               # one for each set of policies that Pods of the node have
//	                       drop }
//	  chain in-shop-web-0b… { ip saddr @peer4-1f… tcp dport 80 accept
//	                          ip saddr @peer4-1f… meta l4proto tcp ip daddr . th dport @named4-6-metrics accept }
//	}
//	table bridge podium-policies {
//	  set closed-in  { type ifname }                          # the links of these Pods
//	  set closed-out { type ifname }
//	  chain forward  { type filter hook forward priority filter
//	                   iifgroup != GROUP accept
//	                   ether type arp accept
//	                   icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
//	                   oifname @closed-in drop
//	                   iifname @closed-out drop }
//	}
//
// What ends in `accept` goes on to the next chain of the hook: both directions must allow a connection. The node routes between
// its Pods (internal/network), so the forward hook sees all of their traffic but what they send to groups; the bridge's table
// keeps that from and to isolated Pods. Traffic between a Pod and its own node passes other hooks and is always allowed, as
// Kubernetes has it. Addresses of Services are translated before: policies see the Pods' own.
//
// A connection that was allowed goes on when a policy comes that would not allow it; Kubernetes leaves that to the
// implementation.
func (s *state) tables(id string, group uint32) []nft.Table {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(id)}
	b := &nftables.Table{Family: nftables.TableFamilyBridge, Name: tableName(id)}
	e := &emitter{state: s, table: t, sets: map[string]nft.Set{}}
	for _, f := range s.families {
		for _, d := range []direction{ingress, egress} {
			e.declare(&nftables.Set{Name: isolatedMap(d, f), IsMap: true, KeyType: f.addrType(), DataType: nftables.TypeVerdict})
		}
		for _, p := range s.peers {
			e.declare(&nftables.Set{Name: peerSet(p, f), KeyType: f.addrType()})
		}
		for n := range s.named {
			e.declare(&nftables.Set{Name: namedSet(n, f), Concatenation: true, KeyType: nftables.MustConcatSetType(f.addrType(), nftables.TypeInetService)})
		}
	}
	chains := e.chains()
	inet := nft.Table{Table: t, Chains: chains}
	for _, name := range slices.Sorted(maps.Keys(e.sets)) {
		inet.Sets = append(inet.Sets, e.sets[name])
	}
	links := nft.Table{Table: b}
	for _, d := range []direction{ingress, egress} {
		links.Sets = append(links.Sets, nft.Set{Set: linkSet(b, d), Elements: s.elementsOf(closedLinks(d))})
	}
	links.Chains = []nft.Chain{linkChain(b, group)}
	return []nft.Table{inet, links}
}

func linkSet(t *nftables.Table, d direction) *nftables.Set {
	return &nftables.Set{Table: t, Name: closedLinks(d), KeyType: nftables.TypeIFName}
}

// linkChain keeps what Pods send to groups, and what is no IP, from and to isolated Pods.
func linkChain(t *nftables.Table, group uint32) nft.Chain {
	accept, drop := nft.Verdict(expr.VerdictAccept, ""), nft.Verdict(expr.VerdictDrop, "")
	policy := nftables.ChainPolicyAccept
	lookup := func(key expr.MetaKey, d direction) []expr.Any {
		return []expr.Any{&expr.Meta{Key: key, Register: nft.Reg}, &expr.Lookup{SourceRegister: nft.Reg, SetName: closedLinks(d)}}
	}
	notOurs := nft.InByGroup(group)
	notOurs[len(notOurs)-1].(*expr.Cmp).Op = expr.CmpOpNeq
	const solicit, advert = 135, 136
	return nft.Chain{
		Chain: &nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(0), Policy: &policy},
		Rules: [][]expr.Any{
			nft.All(notOurs, accept),
			nft.All(nft.EtherType(unix.ETH_P_ARP), accept),
			nft.All(nft.EtherType(unix.ETH_P_IPV6), nft.Transport(unix.IPPROTO_ICMPV6), nft.TransportByte(0, solicit, advert), accept),
			nft.All(lookup(expr.MetaKeyOIFNAME, ingress), drop),
			nft.All(lookup(expr.MetaKeyIIFNAME, egress), drop),
		},
	}
}

// elementsOf are the elements of a set that depend on Pods.
func (s *state) elementsOf(set string) []nftables.SetElement {
	var out []nftables.SetElement
	for _, key := range slices.Sorted(maps.Keys(s.sets[set])) {
		out = append(out, setElement(element{set, key, s.sets[set][key].chain}))
	}
	return out
}

func setElement(e element) nftables.SetElement {
	out := nftables.SetElement{Key: []byte(e.key)}
	if e.set == closedLinks(ingress) || e.set == closedLinks(egress) {
		out.Key = nft.LinkName(e.key)
	}
	if e.chain != "" {
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictJump, Chain: e.chain}
	}
	return out
}

// changes are the elements to delete and to add for the tables to be what the state says, where only elements changed.
func (s *state) changes(id string) (drop, add []nft.Change) {
	drops, adds := map[string][]nftables.SetElement{}, map[string][]nftables.SetElement{}
	for e, before := range s.touched {
		now := s.sets[e.set][e.key]
		if before != nil && now != nil && *before == now.chain {
			continue
		}
		if before != nil {
			drops[e.set] = append(drops[e.set], nftables.SetElement{Key: setElement(e).Key})
		}
		if now != nil {
			adds[e.set] = append(adds[e.set], setElement(element{e.set, e.key, now.chain}))
		}
	}
	return changesOf(id, drops), changesOf(id, adds)
}

func changesOf(id string, of map[string][]nftables.SetElement) []nft.Change {
	var out []nft.Change
	for name, elements := range of {
		t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(id)}
		if name == closedLinks(ingress) || name == closedLinks(egress) {
			t.Family = nftables.TableFamilyBridge
		}
		out = append(out, nft.Change{Set: &nftables.Set{Table: t, Name: name}, Elements: elements})
	}
	return out
}

// portKey is an address and a port as the key of a set.
func portKey(a netip.Addr, port uint16) []byte {
	return append(append(a.AsSlice(), binaryutil.BigEndian.PutUint16(port)...), 0, 0)
}

// emitter writes the rules of a table, and the sets that they need.
type emitter struct {
	state *state
	table *nftables.Table
	sets  map[string]nft.Set
}

// declare adds a set, with the elements that the state has for it.
func (e *emitter) declare(set *nftables.Set, fixed ...nftables.SetElement) {
	set.Table = e.table
	e.sets[set.Name] = nft.Set{Set: set, Elements: append(e.state.elementsOf(set.Name), fixed...)}
}

// chains are all chains of the inet table.
func (e *emitter) chains() []nft.Chain {
	drop := nft.Verdict(expr.VerdictDrop, "")
	out := []nft.Chain{e.base(egress, 0), e.base(ingress, 1)}
	done := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(e.state.groups)) {
		g := e.state.groups[name]
		chain := nft.Chain{Chain: &nftables.Chain{Name: name, Table: e.table}}
		for _, p := range g.policies {
			if e.state.closed[p.name] {
				continue
			}
			at := policyChain(g.direction, p.name)
			chain.Rules = append(chain.Rules, nft.Verdict(expr.VerdictJump, at))
			if done[at] {
				continue
			}
			done[at] = true
			own := nft.Chain{Chain: &nftables.Chain{Name: at, Table: e.table}}
			for _, r := range p.sides[g.direction].rules {
				for _, f := range e.state.families {
					own.Rules = append(own.Rules, e.rule(g.direction, f, r)...)
				}
			}
			out = append(out, own)
		}
		chain.Rules = append(chain.Rules, drop)
		out = append(out, chain)
	}
	return out
}

// base is the chain of a direction at the forward hook.
func (e *emitter) base(d direction, priority int32) nft.Chain {
	name, from := "egress", nft.Src
	if d == ingress {
		name, from = "ingress", nft.Dst
	}
	policy := nftables.ChainPolicyAccept
	c := nft.Chain{Chain: &nftables.Chain{
		Name: name, Table: e.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &policy,
	}}
	c.Rules = append(c.Rules, nft.All(ofKnownConnection(), nft.Verdict(expr.VerdictAccept, "")))
	if slices.Contains(e.state.families, v6) {
		// A kernel with br_netfilter shows this hook what the bridge passes on, too. What is routed has no use as such: its hop
		// limit is not 255 (RFC 4861, 7.1).
		c.Rules = append(c.Rules, nft.All(resolution6(), nft.Verdict(expr.VerdictAccept, "")))
	}
	if d == egress && slices.Contains(e.state.families, v6) {
		// Routers do not forward from and to such addresses (RFC 4291, 2.5.6); the kernel does to them.
		c.Rules = append(c.Rules, nft.All(nft.Match(nft.Dst, netip.MustParsePrefix("fe80::/10")), nft.Verdict(expr.VerdictDrop, "")))
	}
	for _, f := range e.state.families {
		c.Rules = append(c.Rules, nft.All(f.is(), []expr.Any{
			nft.LoadAddress(from, f == v4, nft.Reg),
			&expr.Lookup{SourceRegister: nft.Reg, SetName: isolatedMap(d, f), IsDestRegSet: true},
		}))
	}
	return c
}

// ofKnownConnection matches replies, further packets of a connection, and errors about them.
func ofKnownConnection() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: nft.Reg},
		&expr.Bitwise{
			SourceRegister: nft.Reg, DestRegister: nft.Reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: make([]byte, 4)},
	}
}

// resolution6 matches neighbour solicitations and advertisements.
func resolution6() []expr.Any {
	const solicit, advert = 135, 136
	return nft.All(v6.is(), nft.Transport(unix.IPPROTO_ICMPV6), nft.TransportByte(0, solicit, advert))
}

// rule is what a policy's rule is in nft: one rule for each way of matching the peer and each of matching the port.
func (e *emitter) rule(d direction, f family, r rule) [][]expr.Any {
	var out [][]expr.Any
	for _, who := range e.peers(d, f, r) {
		for _, port := range e.ports(f, r) {
			out = append(out, nft.All(f.is(), who, port, nft.Verdict(expr.VerdictAccept, "")))
		}
	}
	return out
}

// peers are the ways in which the other end may match.
func (e *emitter) peers(d direction, f family, r rule) [][]expr.Any {
	if r.anyPeer {
		return [][]expr.Any{nil}
	}
	end := nft.Src
	if d == egress {
		end = nft.Dst
	}
	load := nft.LoadAddress(end, f == v4, nft.Reg)
	in := func(set string) []expr.Any {
		return []expr.Any{load, &expr.Lookup{SourceRegister: nft.Reg, SetName: set}}
	}
	var out [][]expr.Any
	for _, p := range r.peers {
		out = append(out, in(peerSet(p, f)))
	}
	spans := ofFamily(r.blocks, f)
	switch len(spans) {
	case 0:
	case 1:
		out = append(out, nft.Between(load, spans[0].first.AsSlice(), spans[0].last.AsSlice()))
	default:
		name := fmt.Sprintf("block%s-%s", f, digest(fmt.Sprint(spans)))
		e.declare(&nftables.Set{Name: name, Interval: true, KeyType: f.addrType()}, intervals(spans)...)
		out = append(out, in(name))
	}
	return out
}

func ofFamily(all []span, f family) []span {
	return slices.DeleteFunc(slices.Clone(all), func(s span) bool { return familyOf(s.first) != f })
}

// intervals are spans as elements of a set: where each begins, and where the addresses after it do.
func intervals(spans []span) []nftables.SetElement {
	var out []nftables.SetElement
	for _, s := range spans {
		out = append(out, nftables.SetElement{Key: s.first.AsSlice()})
		if next := s.last.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// ports are the ways in which the port may match.
func (e *emitter) ports(f family, r rule) [][]expr.Any {
	if r.anyPort {
		return [][]expr.Any{nil}
	}
	var out [][]expr.Any
	single := map[uint8][]nftables.SetElement{}
	for _, p := range r.ports {
		switch {
		case p.any():
			out = append(out, nft.Transport(p.proto))
		case p.first == p.last:
			single[p.proto] = append(single[p.proto], nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p.first)})
		default:
			out = append(out, nft.All(nft.Transport(p.proto), nft.Between(loadPort(nft.Reg), binaryutil.BigEndian.PutUint16(p.first), binaryutil.BigEndian.PutUint16(p.last))))
		}
	}
	for _, proto := range slices.Sorted(maps.Keys(single)) {
		ports := single[proto]
		if len(ports) == 1 {
			out = append(out, nft.All(nft.Transport(proto), []expr.Any{loadPort(nft.Reg), &expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: ports[0].Key}}))
			continue
		}
		var keys []byte
		for _, p := range ports {
			keys = append(keys, p.Key...)
		}
		name := "ports-" + digest(string(keys))
		e.declare(&nftables.Set{Name: name, KeyType: nftables.TypeInetService}, ports...)
		out = append(out, nft.All(nft.Transport(proto), []expr.Any{loadPort(nft.Reg), &expr.Lookup{SourceRegister: nft.Reg, SetName: name}}))
	}
	for _, n := range r.named {
		out = append(out, nft.All(nft.Transport(n.proto), []expr.Any{
			nft.LoadAddress(nft.Dst, f == v4, nft.Reg), loadPort(nft.Reg + f.words()),
			&expr.Lookup{SourceRegister: nft.Reg, SetName: namedSet(n, f)},
		}))
	}
	return out
}

// loadPort loads the destination port.
func loadPort(at uint32) expr.Any { return nft.TransportBytes(2, 2)(at) }

// rules is how many nft rules a policy takes.
func (p *policy) rules(families []family) int {
	n := 0
	for _, r := range p.allRules() {
		for _, f := range families {
			peers := len(r.peers) + min(len(ofFamily(r.blocks, f)), 1)
			if r.anyPeer {
				peers = 1
			}
			ports := len(r.ports) + len(r.named)
			if r.anyPort {
				ports = 1
			}
			n += peers * ports
		}
	}
	return n
}
