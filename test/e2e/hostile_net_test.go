package e2e

import (
	"bytes"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wire is a packet socket on eth0 of a Pod: what a container with NET_RAW, which is a default capability, can open.
type wire struct {
	fd, link int
	mac      net.HardwareAddr
}

// wireOf opens a wire in the Pod with the address.
func (s *space) wireOf(ip string) *wire {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.node.paths.Run, "netns", "*"))
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range files {
		ns, err := netns.GetFromPath(f)
		if err != nil {
			continue
		}
		w, err := openWire(ns, ip)
		ns.Close()
		if err == nil {
			s.Cleanup(func() { unix.Close(w.fd) })
			return w
		}
	}
	s.Fatalf("none of %v is of the Pod with the address %s", files, ip)
	return nil
}

var errOther = errors.New("another Pod's")

func openWire(ns netns.NsHandle, ip string) (*wire, error) {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	link, err := h.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	addrs, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 || addrs[0].IP.String() != ip {
		return nil, errOther
	}
	w := &wire{link: link.Attrs().Index, mac: link.Attrs().HardwareAddr}
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is in the Pod's namespace and ends with the goroutine
		err := netns.Set(ns)
		if err == nil {
			w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swap(unix.ETH_P_ALL)))
		}
		if err == nil {
			err = unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ALL), Ifindex: w.link})
		}
		opened <- err
	}()
	return w, <-opened
}

func swap(n uint16) uint16 { return n<<8 | n>>8 }

// broadcast sends a packet to all on the bridge.
func (w *wire) broadcast(t *testing.T, kind uint16, packet ...[]byte) {
	t.Helper()
	w.send(t, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kind, packet...)
}

// send sends a packet to a MAC.
func (w *wire) send(t *testing.T, to net.HardwareAddr, kind uint16, packet ...[]byte) {
	t.Helper()
	frame := append(append([]byte{}, to...), w.mac...)
	frame = append(encoding.BigEndian.AppendUint16(frame, kind), bytes.Join(packet, nil)...)
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.link, Halen: 6}); err != nil {
		t.Fatal(err)
	}
}

// until reads frames until one has the text, which must come, and returns all.
func (w *wire) until(t *testing.T, text string) string {
	t.Helper()
	var all strings.Builder
	buf := make([]byte, 2048)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 1000); err != nil || n == 0 {
			continue
		}
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(buf[:n])
		if bytes.Contains(buf[:n], []byte(text)) {
			return all.String()
		}
	}
	t.Fatalf("no frame with %q came", text)
	return ""
}

// datagram is an IPv4 packet with UDP to the port 9 of all.
func datagram(from, text string) []byte {
	return datagramTo(from, netip.MustParseAddrPort("255.255.255.255:9"), text)
}

// datagramTo is an IPv4 packet with UDP.
func datagramTo(from string, to netip.AddrPort, text string) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	encoding.BigEndian.PutUint16(h[2:], uint16(28+len(text)))
	h = append(append(h, netip.MustParseAddr(from).AsSlice()...), to.Addr().AsSlice()...)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(encoding.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	encoding.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	h = append(encoding.BigEndian.AppendUint16(append(h, 0, 9), to.Port()), 0, byte(8+len(text)), 0, 0)
	return append(h, text...)
}

// A Pod with NET_RAW speaks for nobody else: not when it has just started, not while the daemon is dead, not after its
// next start. (What else it may try is tried in internal/network.)
func TestHostileNetwork(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	for _, name := range []string{"attacker", "victim"} {
		s.create(shellPod(name, "exec sleep 3600"))
	}
	attackerIP, victimIP := s.awaitRunning("attacker").Status.PodIP, s.awaitRunning("victim").Status.PodIP
	gateway := netip.MustParseAddr(attackerIP).As4()
	gateway[3] = 1
	attacker, victim := s.wireOf(attackerIP), s.wireOf(victimIP)
	attack := func(when string) {
		t.Helper()
		for _, from := range []string{victimIP, "127.0.0.1", netip.AddrFrom4(gateway).String(), "192.0.2.1"} {
			attacker.broadcast(t, unix.ETH_P_IP, datagram(from, "spoof from "+from))
		}
		arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, attacker.mac...)
		arp = append(append(arp, gateway[:]...), make([]byte, 10)...)
		attacker.broadcast(t, unix.ETH_P_ARP, arp, []byte("spoof of the gateway"))
		solicited := append([]byte{0x60, 0, 0, 0, 0, 16 + 20, unix.IPPROTO_ICMPV6, 255}, make([]byte, 32)...)
		copy(solicited[8:], []byte{0xfe, 0x80, 8: attacker.mac[0] ^ 2, attacker.mac[1], attacker.mac[2], 0xff, 0xfe, attacker.mac[3], attacker.mac[4], attacker.mac[5]})
		copy(solicited[24:], netip.MustParseAddr("ff02::1").AsSlice())
		attacker.broadcast(t, unix.ETH_P_IPV6, solicited, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, []byte("spoof of the router.."))
		fence := "honest " + when
		attacker.broadcast(t, unix.ETH_P_IP, datagram(attackerIP, fence))
		if got := victim.until(t, fence); strings.Contains(got, "spoof") {
			t.Errorf("%s: the victim got %q", when, got)
		}
	}
	loopback := listenUDP(t, "127.0.0.1")
	there := listenUDP(t, netip.AddrFrom4(gateway).String())
	router := net.HardwareAddr{0x0a, 0x58, gateway[0], gateway[1], gateway[2], gateway[3]}
	onLoopback := func(when string) {
		t.Helper()
		for _, from := range []string{attackerIP, "127.0.0.1"} {
			attacker.send(t, router, unix.ETH_P_IP, datagramTo(from, addrOf(loopback), "spoof from "+from))
		}
		attacker.send(t, router, unix.ETH_P_IP, datagramTo(attackerIP, addrOf(there), when))
		if got := receive(t, there, patience); got != when {
			t.Errorf("%s: the node got %q", when, got)
		}
		if got := receive(t, loopback, time.Millisecond); got != "" {
			t.Errorf("%s: a server of the node on 127.0.0.1 got %q", when, got)
		}
	}
	attack("after the start")
	onLoopback("after the start")
	n.kill(t)
	attack("without a daemon")
	onLoopback("without a daemon")
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	attack("with another daemon")
	if out := s.kubectl("exec", "attacker", "--", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"); strings.TrimSpace(out) != "0" {
		t.Errorf("accept_ra of the Pod: %s", out)
	}
}

// listenUDP is a socket of the node's.
func listenUDP(t *testing.T, ip string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp4", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrOf(c net.PacketConn) netip.AddrPort { return netip.MustParseAddrPort(c.LocalAddr().String()) }

// receive returns the next datagram, or "" if none comes in time.
func receive(t *testing.T, c net.PacketConn, within time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, _, err := c.ReadFrom(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Pods ask for the node's own ports, as host ports and with the node's network: they are refused, by whichever way they
// come, and the API goes on.
func TestHostileHostPorts(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	_, text, err := net.SplitHostPort(n.bind)
	if err != nil {
		t.Fatal(err)
	}
	api := intOf(t, text)
	object, err := n.client.CoreV1().Nodes().Get(s.ctx, n.name(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kubelet := object.Status.DaemonEndpoints.KubeletEndpoint.Port
	pod := func(name string, port corev1.ContainerPort) *corev1.Pod {
		p := shellPod(name, "exec sleep 3600")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
		return p
	}
	bound := pod("bound", corev1.ContainerPort{ContainerPort: 80, HostPort: api})
	bound.Spec.NodeName = n.name()
	host := pod("host", corev1.ContainerPort{ContainerPort: api})
	host.Spec.HostNetwork = true
	init := pod("init", corev1.ContainerPort{ContainerPort: 80})
	init.Spec.InitContainers = []corev1.Container{{Name: "i", Image: shellImage, Command: []string{"true"}, Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: api}}}}
	for p, whose := range map[*corev1.Pod]string{
		pod("scheduled", corev1.ContainerPort{ContainerPort: 80, HostPort: api}): "the API server",
		bound: "the API server",
		pod("loopback", corev1.ContainerPort{ContainerPort: 80, HostPort: api, HostIP: "127.0.0.1"}): "the API server",
		host: "the API server",
		init: "the API server",
		pod("kubelet", corev1.ContainerPort{ContainerPort: 80, HostPort: kubelet}): "the node's server",
	} {
		s.create(p)
		got := s.awaitPhase(p.Name, corev1.PodFailed)
		const words = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
		if got.Status.Reason != "NodePorts" || !strings.HasPrefix(got.Status.Message, words) || !strings.Contains(got.Status.Message, whose) {
			t.Errorf("%s: %s", p.Name, describe(got))
		}
		s.eventuallyEvent(p.Name, "NodePorts", "didn't have free ports")
	}
	s.create(pod("udp", corev1.ContainerPort{ContainerPort: 80, HostPort: api, Protocol: corev1.ProtocolUDP}))
	s.awaitRunning("udp")
	n.kill(t)
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	s.awaitRunning("udp")
}

// While no daemon runs, a Pod with the node's network takes the API server's port. The next start gets it back.
func TestHostileSquatter(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	_, port, err := net.SplitHostPort(n.bind)
	if err != nil {
		t.Fatal(err)
	}
	p := shellPod("squatter", fmt.Sprintf("while true; do nc -l -p %s -e cat 2>/dev/null || sleep 0.05; done", port))
	p.Spec.HostNetwork = true
	s.create(p)
	s.awaitRunning("squatter")
	n.kill(t)
	s.eventually("the Pod listens in the API server's place", func() error {
		l, err := net.Listen("tcp", n.bind)
		if err == nil {
			l.Close()
			return errors.New("the port is free")
		}
		return nil
	})
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + n.bind); err != nil { // the API server tells who speaks no TLS so
		t.Error(err)
	}
	s.await("squatter", "started again", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
}

func intOf(t *testing.T, text string) int32 {
	t.Helper()
	var n int32
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
