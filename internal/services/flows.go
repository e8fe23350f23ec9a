package services

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// staleFlows matches UDP flows to Services that go elsewhere than to one of the endpoints that there are now: UDP has no
// end of a connection, and without this its packets would go on to an endpoint that is gone, or to nowhere if they began
// before there was one.
type staleFlows struct {
	fronts map[frontOf]map[netip.AddrPort]bool
	// local are the node's addresses: node ports are reached there only.
	local map[netip.Addr]bool
}

// MatchConntrackFlow reports whether a flow is to be deleted.
func (s *staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := netip.AddrFromSlice(f.Forward.DstIP)
	at, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	to, at = to.Unmap(), at.Unmap()
	now, ours := s.fronts[frontOf{at: netip.AddrPortFrom(to, f.Forward.DstPort), v4: to.Is4()}]
	if !ours && s.local[to] {
		now, ours = s.fronts[frontOf{at: netip.AddrPortFrom(netip.Addr{}, f.Forward.DstPort), v4: to.Is4()}]
	}
	return ours && !now[netip.AddrPortFrom(at, f.Reverse.SrcPort)]
}

// forgetFlows deletes the stale UDP flows to these fronts.
func forgetFlows(fronts map[frontOf]map[netip.AddrPort]bool) error {
	if len(fronts) == 0 {
		return nil
	}
	s := &staleFlows{fronts: fronts, local: map[netip.Addr]bool{}}
	var v4, v6, nodePorts bool
	for f := range fronts {
		v4, v6, nodePorts = v4 || f.v4, v6 || !f.v4, nodePorts || !f.at.Addr().IsValid()
	}
	if nodePorts {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return fmt.Errorf("list the node's addresses: %w", err)
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					s.local[ip.Unmap()] = true
				}
			}
		}
	}
	var errs []error
	for _, f := range []struct {
		want   bool
		family netlink.InetFamily
	}{{v4, unix.AF_INET}, {v6, unix.AF_INET6}} {
		if f.want {
			_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, f.family, s)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
