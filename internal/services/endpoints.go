package services

import (
	"net/netip"
	"slices"
)

// target is one endpoint of a port of a Service.
type target struct {
	at netip.AddrPort
	*endpoint
}

// targets are the endpoints of a Service's port of one family, in a fixed order. One that several slices have counts
// once, as ready if it is ready in any of them.
func targets(all []*slice, p servicePort, v4 bool) []target {
	var out []target
	for _, s := range all {
		if s.v4 != v4 {
			continue
		}
		for _, sp := range s.ports {
			if sp.name != p.name || sp.proto != p.proto {
				continue
			}
			for i := range s.endpoints {
				out = append(out, target{at: netip.AddrPortFrom(s.endpoints[i].addr, sp.port), endpoint: &s.endpoints[i]})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b target) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		switch {
		case a.ready && !b.ready:
			return -1
		case b.ready && !a.ready:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(out, func(a, b target) bool { return a.at == b.at })
}

// choice is which endpoints of a port are used.
type choice struct {
	// cluster are those for the traffic policy Cluster, local those for Local.
	cluster, local []netip.AddrPort
	// any is whether the port has a usable endpoint anywhere in the cluster.
	any bool
}

// choose decides which endpoints of a port this node uses, as kube-proxy does (KEP-1669, KEP-1672, KEP-2433, KEP-3015):
// ready ones, or those that serve while they terminate if none is ready; of the ready ones those that the hints give to
// this node or to its zone, if all have hints and one is for it.
func choose(s *service, all []target, zone string) choice {
	var c choice
	pick := func(want func(target) bool) []netip.AddrPort {
		var out []netip.AddrPort
		for _, t := range all {
			if want(t) {
				out = append(out, t.at)
			}
		}
		return out
	}
	ready := func(t target) bool { return t.ready }
	leaving := func(t target) bool { return !t.ready && t.serving && t.terminating }
	if !s.internalLocal || s.external() {
		hinted := hint(all, zone)
		c.cluster = pick(func(t target) bool { return t.ready && hinted(t) })
		if len(c.cluster) == 0 {
			c.cluster = pick(leaving)
		}
	}
	if s.internalLocal || s.externalLocal {
		c.local = pick(func(t target) bool { return t.local && t.ready })
		if len(c.local) == 0 {
			c.local = pick(func(t target) bool { return t.local && leaving(t) })
		}
	}
	c.any = slices.ContainsFunc(all, ready) || slices.ContainsFunc(all, leaving)
	return c
}

// hint returns which of the ready endpoints the hints leave to this node.
func hint(all []target, zone string) func(target) bool {
	nodes, zones := true, true
	forNode, forZone := false, false
	for _, t := range all {
		if !t.ready {
			continue
		}
		nodes, forNode = nodes && t.nodeHints, forNode || t.forNode
		zones, forZone = zones && len(t.zoneHints) > 0, forZone || slices.Contains(t.zoneHints, zone)
	}
	switch {
	case nodes && forNode:
		return func(t target) bool { return t.forNode }
	case zones && forZone:
		return func(t target) bool { return slices.Contains(t.zoneHints, zone) }
	}
	return func(target) bool { return true }
}
