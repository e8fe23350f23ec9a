package network

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

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/test/pace"
)

// The first thread is kept from goroutines that move to another namespace: /proc/self is what it sees.
func init() { runtime.LockOSThread() }

// TestMain runs the tests again in a network namespace of their own, where they may do as they like.
func TestMain(m *testing.M) {
	const marker = "PODIUM_NETWORK_TEST"
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

// ownNS is the namespace of the tests, the "node".
const ownNS = "/proc/self/ns/net"

// serve answers in a namespace, on network and address, each connection or datagram with "NAME from PEER-IP".
func serve(t testing.TB, ns, name, network, addr string) {
	t.Helper()
	inNS(t, ns, func() error {
		answer := func(peer net.Addr) []byte {
			ap := netip.MustParseAddrPort(peer.String())
			return []byte(name + " from " + ap.Addr().Unmap().String())
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

// ask connects in a namespace and returns what comes back within a time, or "" when nothing does.
func ask(t testing.TB, ns, network, addr string, within time.Duration) string {
	t.Helper()
	var got string
	inNS(t, ns, func() error {
		c, err := net.DialTimeout(network, addr, within)
		if err != nil {
			return nil
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(within))
		if strings.HasPrefix(network, "udp") {
			_, _ = c.Write([]byte("?"))
		}
		buf := make([]byte, 128)
		n, _ := c.Read(buf)
		got = string(buf[:n])
		return nil
	})
	return got
}

func wantAnswer(t testing.TB, ns, network, addr, want string) {
	t.Helper()
	// For what must come there is time to send again what was lost; for what must not, a second will do. (A Pod's IPv6
	// address is heard of by its neighbours only when a kernel worker has run.)
	within := pace.Of(5 * time.Second)
	if want == "" {
		within = time.Second
	}
	if got := ask(t, ns, network, addr, within); got != want {
		t.Errorf("%s %s: %q, want %q", network, addr, got, want)
	}
}

// outside is another machine: a namespace linked to the node, 192.0.2.1 and 2001:db8::1 there, .2 and ::2 here.
func outside(t testing.TB) string {
	t.Helper()
	path := newNS(t)
	ns, err := netns.GetFromPath(path)
	check(t, err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}))
	t.Cleanup(func() { _ = delLink("uplink") })
	here, err := netlink.NewHandle()
	check(t, err)
	defer here.Close()
	there, err := netlink.NewHandleAt(ns)
	check(t, err)
	defer there.Close()
	for _, side := range []struct {
		h    *netlink.Handle
		link string
		ips  [2]string
	}{{here, "uplink", [2]string{"192.0.2.2", "2001:db8::2"}}, {there, "eth0", [2]string{"192.0.2.1", "2001:db8::1"}}} {
		link, err := side.h.LinkByName(side.link)
		check(t, err)
		for i, ip := range side.ips {
			addr := &netlink.Addr{IPNet: ipNet(netip.MustParseAddr(ip), []int{24, 64}[i]), Flags: unix.IFA_F_NODAD}
			check(t, side.h.AddrAdd(link, addr))
		}
		check(t, side.h.LinkSetUp(link))
		lo, err := side.h.LinkByName("lo")
		check(t, err)
		check(t, side.h.LinkSetUp(lo))
	}
	return path
}

// testPaths are places of a node below a folder of the test's.
func testPaths(t testing.TB) paths.Paths {
	t.Helper()
	return paths.For(filepath.Join(t.TempDir(), "root"))
}

// machineState is what a network leaves on the machine, for comparing before and after.
func machineState(t testing.TB) string {
	t.Helper()
	links, err := netlink.LinkList()
	check(t, err)
	var out []string
	for _, l := range links {
		out = append(out, "link "+l.Attrs().Name)
	}
	c, err := nftables.New()
	check(t, err)
	tables, err := c.ListTables()
	check(t, err)
	for _, table := range tables {
		out = append(out, "table "+table.Name)
	}
	return strings.Join(out, "\n")
}

// newNetwork opens a network and, at the end of the test, removes it and checks that nothing is left.
func newNetwork(t testing.TB, change func(*Config)) *Network {
	t.Helper()
	before := machineState(t)
	cfg := Config{Paths: testPaths(t), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	check(t, err)
	t.Cleanup(func() {
		check(t, n.Remove(t.Context()))
		// The kernel removes the links of a deleted namespace in the background.
		after := machineState(t)
		for end := time.Now().Add(10 * time.Second); after != before && time.Now().Before(end); after = machineState(t) {
			<-time.After(10 * time.Millisecond)
		}
		if after != before {
			t.Errorf("left on the machine:\n%s\nbefore:\n%s", after, before)
		}
	})
	return n
}
