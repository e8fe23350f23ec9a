package network

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"podium.dev/podium/internal/nft"
)

// rules is the node's own nftables table. What it does, in nft's words, per address family:
//
//	table inet podium {
//	  map hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service }
//	  map hostports4-ip { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//	  set hairpins4 { type ipv4_addr . ipv4_addr }
//	  chain guard       { type filter hook prerouting priority raw
//	                      iifgroup GROUP drop
//	                      iifname BRIDGE ip daddr 127.0.0.0/8 drop
//	                      iifname BRIDGE ip saddr 127.0.0.0/8 drop
//	                      ip saddr PODS iifname != { BRIDGE, lo } drop }
//	  chain prerouting  { type nat hook prerouting priority dstnat
//	                      iifname BRIDGE ip daddr SERVICE tcp dport 443 dnat to APISERVER
//	                      fib daddr type local jump hostports }
//	  chain output      { type nat hook output priority dstnat
//	                      ip daddr SERVICE tcp dport 443 dnat to APISERVER
//	                      fib daddr type local jump hostports }
//	  chain hostports   { ip daddr OWN tcp dport OWN return
//	                      dnat to ip daddr . meta l4proto . th dport map @hostports4-ip
//	                      dnat to meta l4proto . th dport map @hostports4 }
//	  chain postrouting { type nat hook postrouting priority srcnat
//	                      ip saddr 127.0.0.0/8 oifname BRIDGE masquerade
//	                      ct status dnat ip saddr . ip daddr @hairpins4 masquerade
//	                      ip saddr PODS oifname BRIDGE return
//	                      ip saddr PODS ip daddr CLUSTER return
//	                      ip saddr PODS ip daddr 224.0.0.0/4 return
//	                      ip saddr PODS masquerade }
//	}
//
// The number of rules does not grow with the Pods: host ports are elements of the maps. Ports that the node itself listens
// on come before them, whatever they hold. What comes by a Pod's port (GROUP) and not by the bridge is of a port that
// somebody took off the bridge, or a frame that bridges do not pass on: no Pod has business with the node there. A Pod that
// reaches itself by a host port gets the node's address as its source, or it would answer itself; others keep theirs, as
// the node routes between Pods (guard.go).
//
// The API server's own Service is served here and not with the others (internal/services): this table is there before the
// first list of Services is, and may lead to a loopback address.
type rules struct {
	table   string
	bridge  string // empty where CNI serves the Pods
	group   uint32 // device group of the Pods' ports
	own     []OwnPort
	cidrs   []netip.Prefix
	cluster []netip.Prefix
	service netip.Addr
	api     netip.AddrPort
}

// ServicePort is the port of the "kubernetes" Service.
const ServicePort = 443

func (r *rules) ref() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: r.table}
}

// spec is the whole table, with these host ports.
func (r *rules) spec(ports []portTarget) nft.Table {
	return nft.Table{Table: r.ref(), Sets: r.maps(ports), Chains: r.chains()}
}

// chains are the table's chains and rules.
func (r *rules) chains() []nft.Chain {
	accept := nftables.ChainPolicyAccept
	t := r.ref()
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules [][]expr.Any) nft.Chain {
		c := &nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio}
		if hook != nil {
			c.Policy = &accept
		}
		return nft.Chain{Chain: c, Rules: rules}
	}
	dstnat := nftables.ChainPriorityNATDest
	if r.bridge == "" {
		// What has no bridge to go by takes every Pod's traffic, so it comes after the other nodes of this machine.
		dstnat = nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest + 1)
	}
	var pre, out [][]expr.Any
	if r.service.IsValid() && r.api.IsValid() && r.service.Is4() == r.api.Addr().Is4() {
		to := nft.All(nft.Match(nft.Dst, netip.PrefixFrom(r.service, r.service.BitLen())), nft.TCPPort(ServicePort), nft.DNAT(r.api))
		out = append(out, to)
		if r.bridge != "" {
			to = nft.All(nft.InBy(r.bridge), to)
		}
		pre = append(pre, to)
	}
	chains := []nft.Chain{chain("hostports", "", nil, nil, r.hostPortRules())}
	if r.bridge != "" {
		jump := nft.All(nft.LocalDestination(), nft.Verdict(expr.VerdictJump, "hostports"))
		pre, out = append(pre, jump), append(out, jump)
		chains = append(chains, chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, r.guardRules()))
	}
	return append(chains,
		chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, dstnat, pre),
		chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, dstnat, out),
		chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, r.sourceRules()))
}

// guardRules keep from the node what no Pod may send it and nobody in a Pod's name.
func (r *rules) guardRules() [][]expr.Any {
	drop := nft.Verdict(expr.VerdictDrop, "")
	rules := [][]expr.Any{
		nft.All(nft.InByGroup(r.group), drop),
		nft.All(nft.InBy(r.bridge), nft.Match(nft.Dst, loopback4), drop),
		nft.All(nft.InBy(r.bridge), nft.Match(nft.Src, loopback4), drop),
	}
	for _, p := range r.cidrs {
		rules = append(rules, nft.All(nft.Match(nft.Src, p), nft.NotInBy(r.bridge), nft.NotInBy("lo"), drop))
	}
	return rules
}

// hostPortRules are the rules of the chain for what is sent to an address of the node.
func (r *rules) hostPortRules() [][]expr.Any {
	if r.bridge == "" {
		return nil
	}
	var rules [][]expr.Any
	for _, own := range r.own {
		match := nft.TCPPort(own.At.Port())
		if ip := own.At.Addr(); !ip.IsUnspecified() {
			match = nft.All(nft.MatchAddress(nft.Dst, ip), match)
		}
		rules = append(rules, nft.All(match, nft.Verdict(expr.VerdictReturn, "")))
	}
	for _, p := range r.cidrs {
		f := portMaps[p.Addr().Is4()]
		rules = append(rules,
			nft.All(nft.OfFamily(p.Addr()), f.lookupWithAddress(), f.dnatFromMap()),
			nft.All(nft.OfFamily(p.Addr()), f.lookupAnyAddress(), f.dnatFromMap()))
	}
	return rules
}

// sourceRules masquerade the part of the Pods' traffic that leaves the cluster.
func (r *rules) sourceRules() [][]expr.Any {
	if r.bridge == "" {
		return nil
	}
	rules := [][]expr.Any{nft.All(nft.Match(nft.Src, loopback4), nft.OutBy(r.bridge), nft.Masquerade())}
	pass := nft.Verdict(expr.VerdictReturn, "")
	for _, p := range r.cidrs {
		from := nft.Match(nft.Src, p)
		rules = append(rules,
			nft.All(nft.OfFamily(p.Addr()), portMaps[p.Addr().Is4()].toItself(), nft.Masquerade()),
			nft.All(from, nft.OutBy(r.bridge), pass))
		multicast := netip.MustParsePrefix("ff00::/8")
		if p.Addr().Is4() {
			multicast = netip.MustParsePrefix("224.0.0.0/4")
		}
		for _, keep := range append([]netip.Prefix{multicast}, r.cluster...) {
			if keep.Addr().Is4() == p.Addr().Is4() {
				rules = append(rules, nft.All(from, nft.Match(nft.Dst, keep), pass))
			}
		}
		rules = append(rules, nft.All(from, nft.Masquerade()))
	}
	return rules
}

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")
