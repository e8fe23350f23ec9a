package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podLink is the name of a Pod's link inside the Pod.
const podLink = "eth0"

// vethInfoPeer is the attribute with the other end of a pair, VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

func shortHash(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:n]
}

// hostLink is the name of the node's end of a sandbox's link. It follows from the sandbox's ID alone, so that it can
// be taken away with no record of it.
func hostLink(id string) string { return "veth" + shortHash(id, maxLinkName-len("veth")) }

// vethSpec is a pair of links between the bridge and a Pod.
type vethSpec struct {
	host   string // name of the node's end
	group  uint32 // device group of the node's end
	master int    // index of the bridge
	mtu    int
	mac    net.HardwareAddr // of the Pod's end
	netns  int              // file descriptor of the Pod's network namespace
}

// addVeth makes the pair, the Pod's end at once in its namespace, the node's end up and on the bridge, in one message:
// each further one would take the kernel's one lock for links again, which all Pods being started share. The Pod's
// end cannot be set up here, as the kernel makes it before it has another end.
func addVeth(v vethSpec) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	host := nl.NewIfInfomsg(unix.AF_UNSPEC)
	host.Flags, host.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(host)
	mtu := nl.Uint32Attr(uint32(v.mtu))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.host)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, mtu))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(v.group)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.master))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(vethInfoPeer, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(podLink))
	peer.AddRtAttr(unix.IFLA_MTU, mtu)
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.mac)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.netns)))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// insideSpec is what a Pod's namespace is to have.
type insideSpec struct {
	addrs []netip.Prefix // the Pod's addresses, each with its range's length
	// hadEgress and egress are the limit before and now.
	hadEgress, egress int64
}

// setInside brings loopback up and gives eth0 its addresses and default routes. It may run again on what an earlier
// call left half done.
func setInside(ns netns.NsHandle, spec insideSpec) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach into the network namespace: %w", err)
	}
	defer h.Close()
	if err := loopbackUp(h); err != nil {
		return err
	}
	link, err := h.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("look for %s in the Pod: %w", podLink, err)
	}
	if err := quietInside(ns); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up in the Pod: %w", podLink, err)
	}
	for _, p := range spec.addrs {
		addr := &netlink.Addr{IPNet: ipNet(p.Addr(), p.Bits()), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give the Pod the address %s: %w", p, err)
		}
	}
	for _, p := range spec.addrs {
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index, Family: familyOf(p.Addr()),
			Dst: ipNet(unspecified(p.Addr()), 0), Gw: gatewayOf(p).AsSlice(),
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("give the Pod its default route by %s: %w", gatewayOf(p), err)
		}
	}
	return limit(h, link, spec.hadEgress, spec.egress)
}

// loopbackUp sets lo up; its index is 1 in every network namespace.
func loopbackUp(h *netlink.Handle) error {
	lo := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the Pod's loopback up: %w", err)
	}
	return nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// delLink deletes a link by name. One that is not there is no error.
func delLink(name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete the link %s: %w", name, err)
	}
	return nil
}

// openNetNS opens a network namespace by its path.
func openNetNS(path string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netns.None(), fmt.Errorf("open the sandbox's network namespace %s: %w", path, err)
	}
	return ns, nil
}

// sameAsOurs reports whether the path leads to the network namespace that this process is in: a sandbox that shares
// the node's network has nothing to set up.
func sameAsOurs(path string) bool {
	a, errA := os.Stat(path)
	b, errB := os.Stat("/proc/self/ns/net")
	return errA == nil && errB == nil && os.SameFile(a, b)
}
