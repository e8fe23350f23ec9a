package services

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"podium.dev/podium/test/pace"
)

// The first thread is kept from goroutines that move to another namespace: /proc/self is what it sees.
func init() { runtime.LockOSThread() }

// TestMain runs the tests again in a network namespace of their own.
func TestMain(m *testing.M) {
	const marker = "PODIUM_SERVICES_TEST"
	if os.Geteuid() != 0 || os.Getenv(marker) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newNS makes a network namespace bound to a file, gone with the test.
func newNS(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	check(t, os.WriteFile(path, nil, 0o600))
	errs := make(chan error)
	go func() {
		// The thread is in the new namespace and ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		errs <- err
	}()
	check(t, <-errs)
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// inNS calls f on a thread that is in the namespace. Sockets made by f stay there.
func inNS(t testing.TB, path string, f func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	check(t, <-errs)
}

// here is the namespace of the tests, the "node".
const here = "/proc/self/ns/net"

// machine is a namespace with a link of its own to the node, routed.
type machine struct {
	ns string
	ip [2]netip.Addr // IPv4, IPv6
}

// join makes a machine with these addresses.
func join(t testing.TB, name, v4, v6 string) machine {
	t.Helper()
	m := machine{ns: newNS(t), ip: [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}}
	ns, err := netns.GetFromPath(m.ns)
	check(t, err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}))
	t.Cleanup(func() { _ = netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}}) })
	near, err := netlink.NewHandle()
	check(t, err)
	defer near.Close()
	far, err := netlink.NewHandleAt(ns)
	check(t, err)
	defer far.Close()
	link, err := near.LinkByName(name)
	check(t, err)
	eth, err := far.LinkByName("eth0")
	check(t, err)
	lo, err := far.LinkByName("lo")
	check(t, err)
	check(t, far.LinkSetUp(lo))
	for i, gw := range []string{"169.254.1.1", "fd00:ffff::1"} {
		bits := m.ip[i].BitLen()
		one := func(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, bits)} }
		gateway := netip.MustParseAddr(gw)
		check(t, near.AddrAdd(link, &netlink.Addr{IPNet: one(gateway), Flags: unix.IFA_F_NODAD}))
		check(t, far.AddrAdd(eth, &netlink.Addr{IPNet: one(m.ip[i]), Flags: unix.IFA_F_NODAD}))
		check(t, near.LinkSetUp(link))
		check(t, far.LinkSetUp(eth))
		check(t, near.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: one(m.ip[i]), Scope: netlink.SCOPE_LINK}))
		check(t, far.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: one(gateway), Scope: netlink.SCOPE_LINK}))
		all := &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
		check(t, far.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: all, Gw: gateway.AsSlice()}))
	}
	return m
}

// node makes the namespace of the tests a node that routes, with the addresses 192.0.2.2 and 2001:db8::2.
func node(t testing.TB) {
	t.Helper()
	for name, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"} {
		check(t, os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0))
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "uplink-peer"}))
	t.Cleanup(func() { _ = netlink.LinkDel(&netlink.Dummy{LinkAttrs: attrs}) })
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	link, err := netlink.LinkByName("uplink")
	check(t, err)
	check(t, netlink.LinkSetUp(link))
	peer, err := netlink.LinkByName("uplink-peer")
	check(t, err)
	check(t, netlink.LinkSetUp(peer))
	for ip, bits := range map[string]int{"192.0.2.2": 24, "2001:db8::2": 64} {
		a := netip.MustParseAddr(ip)
		check(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}))
		check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: net.CIDRMask(0, a.BitLen())}}))
	}
}

// serve returns to each connection or datagram in a namespace "NAME from PEER-IP".
func serve(t testing.TB, ns, name, network, addr string) {
	t.Helper()
	inNS(t, ns, func() error {
		answer := func(peer net.Addr) []byte {
			return []byte(name + " from " + netip.MustParseAddrPort(peer.String()).Addr().Unmap().String())
		}
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, addr)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 64)
				for {
					_, peer, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo(answer(peer), peer)
				}
			}()
			return nil
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write(answer(c.RemoteAddr()))
				c.Close()
			}
		}()
		return nil
	})
}

// The outcomes of ask that are no answer.
const (
	silence = "silence"
	refusal = "refusal"
)

// patience is how long an answer may take: a namespace's IPv6 address is heard of only when a kernel worker has run.
const patience = 5 * time.Second

// ask connects in a namespace and returns what comes back within a time.
func ask(t testing.TB, ns, network, addr string, within time.Duration) string {
	t.Helper()
	var got string
	inNS(t, ns, func() error {
		got = silence
		c, err := net.DialTimeout(network, addr, within)
		if errors.Is(err, unix.ECONNREFUSED) {
			got = refusal
		}
		if err != nil {
			return nil
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(within))
		if strings.HasPrefix(network, "udp") {
			_, _ = c.Write([]byte("?"))
		}
		buf := make([]byte, 128)
		n, err := c.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			got = refusal
		} else if n > 0 {
			got = string(buf[:n])
		}
		return nil
	})
	return got
}

func wantAnswer(t testing.TB, ns, network, addr string, want ...string) {
	t.Helper()
	within := pace.Of(patience)
	if want[0] == silence {
		within = 300 * time.Millisecond
	}
	got := ask(t, ns, network, addr, within)
	for _, w := range want {
		if got == w {
			return
		}
	}
	t.Errorf("%s %s: %q, want %q", network, addr, got, want)
}

// dialUDP is a socket in a namespace.
func dialUDP(t testing.TB, ns, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	inNS(t, ns, func() (err error) {
		c, err = net.Dial("udp", addr)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// askOn sends by a socket and returns what comes back.
func askOn(t testing.TB, c net.Conn) string {
	t.Helper()
	for range 2 { // an ICMP error of an earlier packet comes first
		_, _ = c.Write([]byte("?"))
		_ = c.SetReadDeadline(time.Now().Add(pace.Of(300 * time.Millisecond)))
		buf := make([]byte, 128)
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	return silence
}
