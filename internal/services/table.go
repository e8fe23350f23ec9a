package services

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/nft"
)

// table is the layout of the node's nftables table of Services. What it does, in nft's words, for IPv4 (IPv6 is alike):
//
//	table inet podium-services {
//	  map by-address4  { type ipv4_addr . inet_proto . inet_service : mark . mark . mark }   # front: ID . shape
//	  map outside4     { the same, for sources that are neither a Pod nor the node }
//	  map by-port4     { type inet_proto . inet_service : mark . mark . mark }
//	  map port-outside4
//	  map endpoints4   { type mark . mark : ipv4_addr . inet_service }                        # ID . number
//	  set endpoint-set4 { type mark . ipv4_addr . inet_service }
//	  map affinity4    { type mark . ipv4_addr : ipv4_addr . inet_service; flags dynamic,timeout }
//	  set sources4     { type mark . ipv4_addr; flags interval }
//	  set hairpins4    { type ipv4_addr . ipv4_addr }
//	  set refused4, refused-ports4, cluster-ips4
//	  map shapes       { type mark . mark : verdict }
//
//	  chain early       { type nat hook prerouting priority dstnat + 1
//	                      iifname BRIDGE fib daddr type local jump local
//	                      iifname BRIDGE jump services }
//	  chain late        { type nat hook prerouting priority dstnat + 2
//	                      iifname != BRIDGE fib daddr type local jump local
//	                      iifname != BRIDGE iifgroup != BRIDGES jump services }
//	  chain output      { type nat hook output priority dstnat + 1
//	                      fib daddr type local jump local
//	                      jump services }
//	  chain local       { ip daddr 127.0.0.0/8 accept
//	                      ip daddr OWN tcp dport OWN accept
//	                      FOREIGN meta l4proto . th dport map @port-outside4 vmap @shapes
//	                      meta l4proto . th dport map @by-port4 vmap @shapes }
//	  chain services    { FOREIGN ip daddr . meta l4proto . th dport map @outside4 vmap @shapes
//	                      ip daddr . meta l4proto . th dport map @by-address4 vmap @shapes }
//	  chain SHAPE       { [ip saddr != PODS] meta mark set meta mark | 0x4000      # what leaves with the node's address
//	                      ID . ip saddr != @sources4 drop
//	                      dnat to ID . ip saddr map @affinity4, if it is in @endpoint-set4
//	                      dnat to ID . numgen random mod N map @endpoints4 }
//	  chain input       { type filter hook input priority filter;   ct state new jump refuse-local; ct state new jump refuse }
//	  chain forward     { type filter hook forward priority filter; ct state new jump refuse; ct state new ip daddr @cluster-ips4 reject }
//	  chain forwarded, own alike
//	  chain postrouting { type nat hook postrouting priority srcnat - 1
//	                      meta mark & 0x4000 != 0 meta mark set meta mark & ~0x4000 masquerade fully-random
//	                      ct status dnat ip saddr . ip daddr @hairpins4 masquerade }
//	}
//
// A packet costs the same with one Service as with ten thousand: some look-ups in hash tables, for the first packet of a
// connection only. A Service is elements of maps and no chain: chains are there for each shape, which is how many endpoints
// a front has and how it treats sources. The maps that grow with the Services lead to data, not to chains, since the
// kernel walks all maps that lead to chains whenever one of their elements is added. Between rules no register is kept, so
// that each rule of a shape looks up the ID again.
//
// The order of the chains: the node's network translates host ports and the "kubernetes" Service first, at dstnat; so it is
// that table that serves the API server's Service at its cluster IP, also before the first list of Services is known and
// where the API server listens on loopback, and this one leaves it out. Of several nodes that run on one machine, each
// serves the Pods on its own bridge first; what comes by the bridge of another one uses this node's ports, not its
// cluster IPs.
type table struct {
	name   string
	bridge string // empty where another network serves the Pods
	others uint32 // device group of the bridges of all nodes of the machine; 0 is none
	pods   []netip.Prefix
	own    []netip.AddrPort
	v6     bool
}

// masqMark is the bit of the packet mark that sends a connection out with the node's address: the one that kube-proxy
// uses, which other programs leave alone.
const masqMark = 0x4000

// maxAffinity is how many clients of one family are remembered at most; more are served without affinity.
const maxAffinity = 1 << 16

func (t *table) ref() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: t.name}
}

func (t *table) families() []bool {
	if t.v6 {
		return []bool{true, false}
	}
	return []bool{true}
}

// setNames are the names of the kinds of sets, without their family.
var setNames = [kinds]string{"by-address", "outside", "by-port", "port-outside", "endpoints", "endpoint-set", "sources", "hairpins", "refused", "refused-ports", "cluster-ips"}

const (
	affinitySet = "affinity"
	shapesSet   = "shapes"
)

func familyName(name string, v4 bool) string {
	if v4 {
		return name + "4"
	}
	return name + "6"
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

// set describes a kind of set of a family.
func (t *table) set(k kind, v4 bool) *nftables.Set {
	addr := addressType(v4)
	mark, proto, port := nftables.TypeMark, nftables.TypeInetProto, nftables.TypeInetService
	types := [kinds][]nftables.SetDatatype{
		{addr, proto, port}, {addr, proto, port}, {proto, port}, {proto, port},
		{mark, mark}, {mark, addr, port}, {mark, addr}, {addr, addr}, {addr, proto, port}, {proto, port}, {addr},
	}[k]
	s := &nftables.Set{Table: t.ref(), Name: familyName(setNames[k], v4), KeyType: concat(types...), Concatenation: len(types) > 1}
	switch {
	case k.isFront():
		s.IsMap, s.DataType = true, concat(mark, mark, mark)
	case k == endpoints:
		s.IsMap, s.DataType = true, concat(addr, port)
	case k == sources:
		s.Interval = true
	}
	return s
}

func addressType(v4 bool) nftables.SetDatatype {
	if v4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// affinity is the map that remembers clients; the rules write it.
func (t *table) affinity(v4 bool) *nftables.Set {
	addr := addressType(v4)
	return &nftables.Set{
		Table: t.ref(), Name: familyName(affinitySet, v4), IsMap: true, Concatenation: true, Dynamic: true, HasTimeout: true, Size: maxAffinity,
		KeyType: concat(nftables.TypeMark, addr), DataType: concat(addr, nftables.TypeInetService),
	}
}

// shapes is the map from a shape to its chain.
func (t *table) shapes() *nftables.Set {
	return &nftables.Set{
		Table: t.ref(), Name: shapesSet, IsMap: true, Concatenation: true,
		KeyType: concat(nftables.TypeMark, nftables.TypeMark), DataType: nftables.TypeVerdict,
	}
}

// sets are all sets of the table.
func (t *table) sets() []*nftables.Set {
	out := []*nftables.Set{t.shapes()}
	for _, v4 := range t.families() {
		for k := range kinds {
			out = append(out, t.set(k, v4))
		}
		out = append(out, t.affinity(v4))
	}
	return out
}

// setElement is an element of a set in the library's form.
func setElement(sl slot, val string) nftables.SetElement {
	e := nftables.SetElement{Key: []byte(sl.key), Val: []byte(val)}
	if sl.kind == sources {
		at := 4 + (len(sl.key)-4)/2
		e.Key, e.KeyEnd = []byte(sl.key[:at]), []byte(sl.key[:4]+sl.key[at:])
	}
	return e
}

// shapeElement leads from a shape to its chain.
func shapeElement(key string) nftables.SetElement {
	return nftables.SetElement{Key: []byte(key), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: shapeOf(key).chain()}}
}

// chain is the name of the shape's chain.
func (s shape) chain() string {
	if s.endpoints == 0 {
		return familyName("drop-"+setNames[s.kind], s.v4)
	}
	name := fmt.Sprintf("to-%d", s.endpoints)
	if s.masq != never {
		name += [...]string{"", "-masq-off-pod", "-masq"}[s.masq]
	}
	if s.ranged {
		name += "-ranged"
	}
	if s.affinity != 0 {
		name += fmt.Sprintf("-affinity-%d", s.affinity)
	}
	return name + "-" + familyName(setNames[s.kind], s.v4)
}

// plainChain is a chain of no hook without its rules.
func (t *table) plainChain(name string) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: t.ref()}
}

// chains are the chains that do not depend on the Services.
func (t *table) chains() []nft.Chain {
	accept := nftables.ChainPolicyAccept
	hooked := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority, rules ...[]expr.Any) nft.Chain {
		return nft.Chain{Chain: &nftables.Chain{Name: name, Table: t.ref(), Type: kind, Hooknum: hook, Priority: &prio, Policy: &accept}, Rules: rules}
	}
	toLocal := nft.All(nft.LocalDestination(), nft.Verdict(expr.VerdictJump, "local"))
	toServices := nft.Verdict(expr.VerdictJump, "services")
	var early, late [][]expr.Any
	if t.bridge == "" {
		late = [][]expr.Any{toLocal, toServices}
	} else {
		early = [][]expr.Any{nft.All(nft.InBy(t.bridge), toLocal), nft.All(nft.InBy(t.bridge), toServices)}
		late = [][]expr.Any{nft.All(nft.NotInBy(t.bridge), toLocal), nft.All(nft.NotInBy(t.bridge), notInByGroup(t.others), toServices)}
	}
	fresh := func(chain string) []expr.Any { return nft.All(newConnection(), nft.Verdict(expr.VerdictJump, chain)) }
	nat, filter := nftables.ChainTypeNAT, nftables.ChainTypeFilter
	dstnat := *nftables.ChainPriorityNATDest
	return []nft.Chain{
		{Chain: t.plainChain("local"), Rules: t.localRules()},
		{Chain: t.plainChain("services"), Rules: t.serviceRules(fromOutside, byAddress)},
		{Chain: t.plainChain("refuse-local"), Rules: t.refuseLocalRules()},
		{Chain: t.plainChain("refuse"), Rules: t.refuseRules(refused)},
		{Chain: t.plainChain("refuse-others"), Rules: t.refuseRules(clusterIPs)},
		hooked("early", nat, nftables.ChainHookPrerouting, dstnat+1, early...),
		hooked("late", nat, nftables.ChainHookPrerouting, dstnat+2, late...),
		hooked("output", nat, nftables.ChainHookOutput, dstnat+1, toLocal, toServices),
		hooked("input", filter, nftables.ChainHookInput, 0, fresh("refuse-local"), fresh("refuse")),
		hooked("forward", filter, nftables.ChainHookForward, 0, fresh("refuse"), fresh("refuse-others")),
		hooked("own", filter, nftables.ChainHookOutput, 0,
			nft.All(newConnection(), nft.LocalDestination(), nft.Verdict(expr.VerdictJump, "refuse-local")), fresh("refuse"), fresh("refuse-others")),
		hooked("postrouting", nat, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource-1, t.sourceRules()...),
	}
}

// notForUs end the local chains for what is sent to loopback or to a port on which the node itself listens.
func (t *table) notForUs(kind expr.VerdictKind) [][]expr.Any {
	end := nft.Verdict(kind, "")
	rules := [][]expr.Any{nft.All(nft.Match(nft.Dst, netip.MustParsePrefix("127.0.0.0/8")), end)}
	if t.v6 {
		rules = append(rules, nft.All(nft.MatchAddress(nft.Dst, netip.IPv6Loopback()), end))
	}
	for _, own := range t.own {
		match := nft.TCPPort(own.Port())
		if ip := own.Addr(); !ip.IsUnspecified() {
			match = nft.All(nft.MatchAddress(nft.Dst, ip), match)
		}
		rules = append(rules, nft.All(match, end))
	}
	return rules
}

func (t *table) localRules() [][]expr.Any {
	return append(t.notForUs(expr.VerdictAccept), t.serviceRules(portFromOutside, byNodePort)...)
}

// serviceRules lead to the chains of shapes: by one map for sources outside, by another for all.
func (t *table) serviceRules(outside, all kind) [][]expr.Any {
	var rules [][]expr.Any
	for _, v4 := range t.families() {
		foreign := nft.All(ofFamily(v4), t.notPods(v4), sourceOfNode(expr.CmpOpNeq))
		rules = append(rules, nft.All(foreign, t.front(outside, v4, nft.Reg), toShape()), nft.All(ofFamily(v4), t.front(all, v4, nft.Reg), toShape()))
	}
	return rules
}

func (t *table) refuseLocalRules() [][]expr.Any {
	return append(t.notForUs(expr.VerdictReturn), t.refuseRules(refusedPorts)...)
}

// refuseRules reject what a set has: an attempt to connect ends at once. TCP is reset, as ICMP messages are limited to one a
// second for each peer (icmp_ratelimit in ip-sysctl.rst).
func (t *table) refuseRules(k kind) [][]expr.Any {
	var rules [][]expr.Any
	for _, v4 := range t.families() {
		found := nft.All(ofFamily(v4), loadKey(k, v4, nft.Reg), []expr.Any{&expr.Lookup{SourceRegister: nft.Reg, SetName: familyName(setNames[k], v4)}})
		rules = append(rules,
			nft.All(nft.Transport(unix.IPPROTO_TCP), found, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}),
			nft.All(found, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}))
	}
	return rules
}

// sourceRules give the node's address to connections that are marked, and to those of a Pod to itself.
func (t *table) sourceRules() [][]expr.Any {
	mark := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: nft.Reg},
		bits(masqMark, 0),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: make([]byte, 4)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: nft.Reg},
		bits(^uint32(masqMark), 0),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: nft.Reg},
		&expr.Masq{FullyRandom: true},
	}
	rules := [][]expr.Any{mark}
	for _, v4 := range t.families() {
		rules = append(rules, nft.All(ofFamily(v4), nft.Translated(), []expr.Any{
			nft.LoadAddress(nft.Src, v4, nft.Reg), nft.LoadAddress(nft.Dst, v4, nft.Reg+words(v4)),
			&expr.Lookup{SourceRegister: nft.Reg, SetName: familyName(setNames[hairpins], v4)},
			&expr.Masq{FullyRandom: true},
		}))
	}
	return rules
}

// notInCluster matches sources that are no Pods; where the Pods' ranges are not known, the node's own addresses.
func (t *table) notInCluster(v4 bool) []expr.Any {
	if out := t.notPods(v4); out != nil {
		return out
	}
	return sourceOfNode(expr.CmpOpEq)
}

// notPods matches sources that are no Pods, as far as their ranges are known.
func (t *table) notPods(v4 bool) []expr.Any {
	var out []expr.Any
	for _, p := range t.pods {
		if p.Addr().Is4() == v4 {
			out = append(out, notFrom(p)...)
		}
	}
	return out
}
