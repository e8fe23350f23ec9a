package netpolicy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows deletes what the kernel remembers of connections from and to addresses that another Pod had before: packets of
// theirs would count as allowed.
func forgetFlows(addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		to, from := &netlink.ConntrackFilter{}, &netlink.ConntrackFilter{}
		ip := net.IP(a.AsSlice())
		// Replies come from where the connection leads after translation.
		err := errors.Join(to.AddIP(netlink.ConntrackReplySrcIP, ip), from.AddIP(netlink.ConntrackOrigSrcIP, ip))
		if err == nil {
			family := netlink.InetFamily(unix.AF_INET6)
			if a.Is4() {
				family = unix.AF_INET
			}
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, to, from)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("forget the connections of the address %s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}
