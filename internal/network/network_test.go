package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/nft"
	"podium.dev/podium/test/pace"
)

// pod sets up a sandbox and returns its namespace and addresses.
func pod(t testing.TB, n *Network, id string, ports ...*runtimeapi.PortMapping) (string, []netip.Addr) {
	t.Helper()
	ns := newNS(t)
	r, err := n.Setup(t.Context(), Request{ID: id, Name: id, Namespace: "default", NetNSPath: ns, PortMappings: ports})
	check(t, err)
	return ns, r.IPs
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(pace.Of(10 * time.Second)); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 10 s: %s", what)
}

func TestPodsReachEachOtherTheNodeAndTheOutside(t *testing.T) {
	needRoot(t)
	out := outside(t)
	n := newNetwork(t, nil)
	a, ipsA := pod(t, n, "a")
	b, ipsB := pod(t, n, "b")
	if ipsA[0].String() != "10.244.7.2" || ipsB[0].String() != "10.244.7.3" {
		t.Errorf("addresses %v, %v", ipsA, ipsB)
	}
	serve(t, a, "a", "tcp", ":80")
	serve(t, ownNS, "node", "tcp4", ":7000")
	serve(t, ownNS, "secret", "tcp4", "127.0.0.1:7001")
	serve(t, out, "outside", "tcp", ":80")
	wantAnswer(t, b, "tcp", "10.244.7.2:80", "a from 10.244.7.3")
	wantAnswer(t, a, "tcp", "127.0.0.1:80", "a from 127.0.0.1")
	wantAnswer(t, ownNS, "tcp", "10.244.7.2:80", "a from 10.244.7.1")
	wantAnswer(t, b, "tcp", "10.244.7.1:7000", "node from 10.244.7.3")
	wantAnswer(t, b, "tcp", "192.0.2.2:7000", "node from 10.244.7.3")
	wantAnswer(t, b, "tcp", "192.0.2.1:80", "outside from 192.0.2.2")

	// A Pod that sends packets for 127.0.0.0/8 to the node by hand does not reach what listens there: the guard
	// holds it off, as taking the guard away shows.
	inNS(t, b, func() error {
		return errors.Join(
			exec.Command("ip", "address", "flush", "dev", "lo").Run(),
			os.WriteFile("/proc/sys/net/ipv4/conf/eth0/route_localnet", []byte("1"), 0),
			exec.Command("ip", "route", "add", "127.0.0.1/32", "via", "10.244.7.1").Run(),
		)
	})
	wantAnswer(t, b, "tcp", "127.0.0.1:7001", "")
	c, err := nftables.New()
	check(t, err)
	c.FlushChain(&nftables.Chain{Table: n.builtin.rules.ref(), Name: "guard"})
	check(t, c.Flush())
	wantAnswer(t, b, "tcp", "127.0.0.1:7001", "secret from 10.244.7.3")
}

func TestHostPorts(t *testing.T) {
	needRoot(t)
	out := outside(t)
	n := newNetwork(t, nil)
	a, _ := pod(t, n, "a",
		&runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080},
		&runtimeapi.PortMapping{ContainerPort: 53, HostPort: 5353, Protocol: runtimeapi.Protocol_UDP},
		&runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8081, HostIp: "127.0.0.1"},
		&runtimeapi.PortMapping{ContainerPort: 9, HostPort: 9, Protocol: runtimeapi.Protocol_SCTP},
	)
	b, _ := pod(t, n, "b")
	serve(t, a, "a", "tcp", ":80")
	serve(t, a, "a", "udp4", ":53")
	wantAnswer(t, out, "tcp", "192.0.2.2:8080", "a from 192.0.2.1")
	wantAnswer(t, out, "udp", "192.0.2.2:5353", "a from 192.0.2.1")
	wantAnswer(t, out, "tcp", "192.0.2.2:8081", "")
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:8081"} {
		wantAnswer(t, ownNS, "tcp", addr, "a from 10.244.7.1")
	}
	wantAnswer(t, ownNS, "tcp", "192.0.2.2:8080", "a from 192.0.2.2")
	wantAnswer(t, ownNS, "udp", "127.0.0.1:5353", "a from 10.244.7.1")
	wantAnswer(t, b, "tcp", "192.0.2.2:8080", "a from 10.244.7.3")
	wantAnswer(t, a, "tcp", "192.0.2.2:8080", "a from 10.244.7.1") // to itself

	// Another request for the same sandbox: other ports.
	r, err := n.Setup(t.Context(), Request{ID: "a", NetNSPath: a, PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 8090}}})
	check(t, err)
	if r.IPs[0].String() != "10.244.7.2" {
		t.Errorf("a second set-up gave %v", r.IPs)
	}
	wantAnswer(t, out, "tcp", "192.0.2.2:8080", "")
	wantAnswer(t, out, "tcp", "192.0.2.2:8090", "a from 192.0.2.1")

	// The successor takes the port over while the old Pod is still there, and keeps it when that goes.
	c, _ := pod(t, n, "c", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8090})
	serve(t, c, "c", "tcp", ":80")
	wantAnswer(t, out, "tcp", "192.0.2.2:8090", "c from 192.0.2.1")
	check(t, n.Teardown(t.Context(), "a", a))
	wantAnswer(t, out, "tcp", "192.0.2.2:8090", "c from 192.0.2.1")
	check(t, n.Teardown(t.Context(), "c", c))
	wantAnswer(t, out, "tcp", "192.0.2.2:8090", "")
}

func TestUDPFlowsGoToTheNewPod(t *testing.T) {
	needRoot(t)
	out := outside(t)
	n := newNetwork(t, nil)
	port := &runtimeapi.PortMapping{ContainerPort: 53, HostPort: 5353, Protocol: runtimeapi.Protocol_UDP}
	send := func(want string) {
		t.Helper()
		var got string
		inNS(t, out, func() error {
			// Always from one port, so that it is one flow to the kernel.
			c, err := net.DialUDP("udp4", &net.UDPAddr{Port: 4000}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 5353})
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte("?"))
			buf := make([]byte, 64)
			n, _ := c.Read(buf)
			got = string(buf[:n])
			return nil
		})
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	a, _ := pod(t, n, "a", port)
	serve(t, a, "a", "udp4", ":53")
	send("a from 192.0.2.1")
	check(t, n.Teardown(t.Context(), "a", a))
	b, _ := pod(t, n, "b", port)
	serve(t, b, "b", "udp4", ":53")
	send("b from 192.0.2.1")
}

func TestServiceAddressLeadsToTheAPIServer(t *testing.T) {
	needRoot(t)
	for _, api := range []string{"127.0.0.1:6443", "192.0.2.2:6443", "192.0.2.1:6443"} {
		t.Run(api, func(t *testing.T) {
			out := outside(t)
			n := newNetwork(t, func(c *Config) {
				c.ServiceIP, c.APIServer = netip.MustParseAddr("10.96.0.1"), netip.MustParseAddrPort(api)
			})
			where := ownNS
			if strings.HasPrefix(api, "192.0.2.1:") {
				where = out
			}
			serve(t, where, "api", "tcp4", api)
			a, _ := pod(t, n, "a")
			for _, ns := range []string{a, ownNS} {
				if got := ask(t, ns, "tcp", "10.96.0.1:443", 5*time.Second); !strings.HasPrefix(got, "api from ") {
					t.Errorf("from %s: %q", ns, got)
				}
			}
			wantAnswer(t, a, "tcp", "10.96.0.1:80", "")
		})
	}
}

func TestDualStack(t *testing.T) {
	needRoot(t)
	out := outside(t)
	n := newNetwork(t, func(c *Config) { c.PodCIDRs = prefixes("10.244.7.0/24", "fd00:10:244:7::/64") })
	a, ips := pod(t, n, "a", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080})
	if fmt.Sprint(ips) != "[10.244.7.2 fd00:10:244:7::2]" {
		t.Errorf("addresses %v", ips)
	}
	b, _ := pod(t, n, "b")
	serve(t, a, "a", "tcp", ":80")
	serve(t, out, "outside", "tcp", ":80")
	wantAnswer(t, b, "tcp", "[fd00:10:244:7::2]:80", "a from fd00:10:244:7::3")
	wantAnswer(t, b, "tcp", "[2001:db8::1]:80", "outside from 2001:db8::2")
	wantAnswer(t, out, "tcp", "[2001:db8::2]:8080", "a from 2001:db8::1")
	wantAnswer(t, out, "tcp", "192.0.2.2:8080", "a from 192.0.2.1")
	wantAnswer(t, a, "tcp", "[2001:db8::2]:8080", "a from fd00:10:244:7::1")
}

func TestTeardownIsIdempotent(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	before := machineState(t)
	check(t, n.Teardown(t.Context(), "never", ""))
	ns, _ := pod(t, n, "a", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 80})
	for range 2 {
		check(t, n.Teardown(t.Context(), "a", ns))
	}
	if after := machineState(t); after != before {
		t.Errorf("left:\n%s", after)
	}
	if left := n.ledger.all(); len(left) != 0 {
		t.Errorf("leases left: %v", left)
	}
}

func TestSetupThatFailsLeavesNothing(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	before := machineState(t)
	if _, err := n.Setup(t.Context(), Request{ID: "a", NetNSPath: "/nowhere"}); err == nil {
		t.Fatal("no error")
	}
	if _, err := n.Setup(t.Context(), Request{ID: "a", NetNSPath: ownNS}); err == nil || !strings.Contains(err.Error(), "the node's own network namespace") {
		t.Fatalf("own namespace: %v", err)
	}
	if left := n.ledger.all(); len(left) != 0 || machineState(t) != before {
		t.Errorf("left: %v\n%s", left, machineState(t))
	}
}

func TestRestartKeepsPods(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	a, _ := pod(t, n, "a", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080})
	gone, _ := pod(t, n, "gone", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8081})
	_ = gone
	serve(t, a, "a", "tcp", ":80")
	n.Close()
	again, err := New(n.cfg)
	check(t, err)
	defer again.Close()
	wantAnswer(t, ownNS, "tcp", "127.0.0.1:8080", "a from 10.244.7.1")
	r, err := again.Setup(t.Context(), Request{ID: "a", NetNSPath: a, PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 8080}}})
	check(t, err)
	if r.IPs[0].String() != "10.244.7.2" {
		t.Errorf("after a restart: %v", r.IPs)
	}
	wantAnswer(t, ownNS, "tcp", "127.0.0.1:8080", "a from 10.244.7.1")
	// A link whose record was lost.
	check(t, again.ledger.put(&record{ID: "lost", NetNS: newNS(t), IPs: []netip.Addr{netip.MustParseAddr("10.244.7.99")}}))
	lost, _ := pod(t, again, "stray")
	_ = lost
	check(t, again.ledger.drop("stray"))
	check(t, again.Retain(t.Context(), []string{"a"}))
	if left := again.ledger.all(); len(left) != 1 || left[0].ID != "a" {
		t.Errorf("retained: %v", left)
	}
	for _, id := range []string{"gone", "lost", "stray"} {
		if _, err := netlink.LinkByName(hostLink(id)); err == nil {
			t.Errorf("the link of %s is still there", id)
		}
	}
	wantAnswer(t, ownNS, "tcp", "127.0.0.1:8080", "a from 10.244.7.1")
	if _, ips := pod(t, again, "b"); ips[0].String() == "10.244.7.2" {
		t.Errorf("an address in use was given again: %v", ips)
	}
}

func TestFlushedRulesComeBack(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	a, _ := pod(t, n, "a", &runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080})
	serve(t, a, "a", "tcp", ":80")
	check(t, nft.Remove(n.cfg.Paths.ID))
	eventually(t, "the table is back", func() bool {
		there, err := n.tablesThere()
		return err == nil && there
	})
	wantAnswer(t, ownNS, "tcp", "127.0.0.1:8080", "a from 10.244.7.1")
}

func TestForeignDropsAreSeen(t *testing.T) {
	needRoot(t)
	c, err := nftables.New()
	check(t, err)
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "fw"})
	t.Cleanup(func() {
		c.DelTable(table)
		check(t, c.Flush())
	})
	drop := nftables.ChainPolicyDrop
	c.AddChain(&nftables.Chain{
		Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	check(t, c.Flush())
	if got, err := foreignDrops(); err != nil || fmt.Sprint(got) != "[fw FORWARD]" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDeletedBridgeComesBack(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	check(t, delLink(n.builtin.bridge.name))
	a, _ := pod(t, n, "a")
	serve(t, a, "a", "tcp", ":80")
	wantAnswer(t, ownNS, "tcp", "10.244.7.2:80", "a from 10.244.7.1")
}

func TestTwoNodesOnOneMachine(t *testing.T) {
	needRoot(t)
	service := func(port uint16, cidr string) func(*Config) {
		return func(c *Config) {
			c.PodCIDRs = prefixes(cidr)
			c.ServiceIP = netip.MustParseAddr("10.96.0.1")
			c.APIServer = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		}
	}
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	one := newNetwork(t, service(6443, "10.244.0.0/24"))
	two := newNetwork(t, service(6444, "10.244.1.0/24"))
	if free, err := FreeCIDR(); err != nil || free.String() != "10.244.2.0/24" {
		t.Errorf("free range: %v, %v", free, err)
	}
	if _, err := New(Config{Paths: testPaths(t), PodCIDRs: prefixes("10.244.1.0/25")}); !errors.Is(err, ErrRangeTaken) || !strings.Contains(err.Error(), "is in use on the link") {
		t.Errorf("an overlapping range: %v", err)
	}
	serve(t, ownNS, "one", "tcp4", "127.0.0.1:6443")
	serve(t, ownNS, "two", "tcp4", "127.0.0.1:6444")
	a, _ := pod(t, one, "a")
	b, _ := pod(t, two, "b")
	serve(t, b, "b", "tcp", ":80")
	wantAnswer(t, a, "tcp", "10.96.0.1:443", "one from 10.244.0.2")
	wantAnswer(t, b, "tcp", "10.96.0.1:443", "two from 10.244.1.2")
	wantAnswer(t, a, "tcp", "10.244.1.2:80", "b from 10.244.1.1") // another cluster's Pods are the outside
}

func TestBandwidth(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	ns := newNS(t)
	req := Request{ID: "a", NetNSPath: ns, Annotations: map[string]string{ingressAnnotation: "8M", egressAnnotation: "16M"}}
	_, err := n.Setup(t.Context(), req)
	check(t, err)
	rate := func() uint64 {
		link, err := netlink.LinkByName(hostLink("a"))
		check(t, err)
		qs, err := netlink.QdiscList(link)
		check(t, err)
		for _, q := range qs {
			if tbf, ok := q.(*netlink.Tbf); ok {
				return tbf.Rate
			}
		}
		return 0
	}
	if got := rate(); got != 1e6 {
		t.Errorf("ingress is limited to %d bytes/s", got)
	}
	req.Annotations = nil
	_, err = n.Setup(t.Context(), req)
	check(t, err)
	if got := rate(); got != 0 {
		t.Errorf("ingress is still limited to %d bytes/s", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	const count = 40
	spaces := make([]string, count)
	for i := range spaces {
		spaces[i] = newNS(t)
	}
	var wg sync.WaitGroup
	seen := sync.Map{}
	for i, ns := range spaces {
		wg.Add(1)
		go func() {
			defer wg.Done()
			id := fmt.Sprintf("pod-%d", i)
			r, err := n.Setup(t.Context(), Request{ID: id, NetNSPath: ns, PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: int32(9000 + i)}}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, twice := seen.LoadOrStore(r.IPs[0], id); twice {
				t.Errorf("%s was given twice", r.IPs[0])
			}
			if i%2 == 0 {
				if err := n.Teardown(t.Context(), id, ns); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if got := len(n.ledger.all()); got != count/2 {
		t.Errorf("%d leases, want %d", got, count/2)
	}
}
