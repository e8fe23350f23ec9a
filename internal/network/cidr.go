package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/cluster"
)

// broadRoute is the prefix length up to which a routed range is taken for somebody's whole address plan ("10.0.0.0/8
// is behind the VPN"), in which a Pod range may still be cut out when nothing else is left.
const broadRoute = 16

// FreeCIDR picks a range for the Pods of this node that no link and no route of the machine uses: the first free /24
// of 10.244.0.0/16, then of 10.245.0.0/16 and so on to 10.254.0.0/16.
func FreeCIDR() (netip.Prefix, error) {
	used, err := usedPrefixes(netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, err
	}
	return freeCIDR(used)
}

func freeCIDR(used []netip.Prefix) (netip.Prefix, error) {
	var narrow []netip.Prefix
	for _, p := range used {
		if p.Bits() > broadRoute {
			narrow = append(narrow, p)
		}
	}
	for _, taken := range [][]netip.Prefix{used, narrow} {
		first := cluster.PodRange.Addr().As4()[1]
		for second := first; second <= first+10; second++ {
			for third := range 256 {
				candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, byte(third), 0}), 24)
				if !overlapsAny(candidate, taken) {
					return candidate, nil
				}
			}
		}
	}
	return netip.Prefix{}, errors.New("find a free range of Pod addresses: every /24 of 10.244.0.0 to 10.254.255.255 is in use by a link or route of this machine; give one with --pod-cidr")
}

// FreeCIDR6 picks a /64 for the Pods' IPv6 addresses, in the same way, of the unique local range fd00:10:244::/48.
// A machine without IPv6 (no global address on any link) gets the zero Prefix and no error.
func FreeCIDR6() (netip.Prefix, error) {
	used, err := usedPrefixes(netlink.FAMILY_V6)
	if err != nil {
		return netip.Prefix{}, err
	}
	global := false
	for _, p := range used {
		global = global || (p.Addr().IsGlobalUnicast() && p.Bits() > 0)
	}
	if !global {
		return netip.Prefix{}, nil
	}
	for subnet := range 1 << 16 {
		a := netip.AddrFrom16([16]byte{0xfd, 0x00, 0x00, 0x10, 0x02, 0x44, byte(subnet >> 8), byte(subnet)})
		if candidate := netip.PrefixFrom(a, 64); !overlapsAny(candidate, used) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, errors.New("find a free range of IPv6 Pod addresses: every /64 of fd00:10:244::/48 is in use; give one with --pod-cidr")
}

// usedPrefixes lists what the links and routes of the machine cover, default routes left out.
func usedPrefixes(family int) ([]netip.Prefix, error) {
	var used []netip.Prefix
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			used = append(used, p)
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("list the machine's routes: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 && !p.Addr().IsMulticast() {
			used = append(used, p)
		}
	}
	return used, nil
}

func overlapsAny(p netip.Prefix, all []netip.Prefix) bool {
	for _, other := range all {
		if p.Overlaps(other) {
			return true
		}
	}
	return false
}
