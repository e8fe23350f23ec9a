package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"podium.dev/podium/test/pace"
)

// wire is a packet socket on a link: it sends frames as they are, and sees those that the link takes in.
type wire struct {
	fd   int
	link int
	mac  net.HardwareAddr
}

// tap opens a wire on a link of a namespace.
func tap(t testing.TB, ns, link string) *wire {
	t.Helper()
	w := &wire{}
	inNS(t, ns, func() error {
		l, err := netlinkHere(link)
		if err != nil {
			return err
		}
		w.link, w.mac = l.Attrs().Index, l.Attrs().HardwareAddr
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ALL))); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(w.fd) })
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: w.link})
	})
	return w
}

// netlinkHere looks for a link in the namespace of the thread.
func netlinkHere(name string) (netlink.Link, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.LinkByName(name)
}

func networkOrder(n uint16) uint16 { return n<<8 | n>>8 }

func (w *wire) send(t testing.TB, frame []byte) {
	t.Helper()
	check(t, unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.link, Halen: 6}))
}

// seesBefore reports whether a frame with the mark comes before one with the fence, which must come.
func (w *wire) seesBefore(t testing.TB, mark, fence string) bool {
	t.Helper()
	seen := false
	buf := make([]byte, 4096)
	for end := time.Now().Add(pace.Of(10 * time.Second)); time.Now().Before(end); {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 1000)
		if err == unix.EINTR || err == nil && ready == 0 {
			continue
		}
		check(t, err)
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		check(t, err)
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		seen = seen || bytes.Contains(buf[:n], []byte(mark))
		if bytes.Contains(buf[:n], []byte(fence)) {
			return seen
		}
	}
	t.Fatalf("no frame with %q came", fence)
	return false
}

func frame(to, from net.HardwareAddr, kind uint16, payload ...[]byte) []byte {
	out := append(append([]byte{}, to...), from...)
	out = binary.BigEndian.AppendUint16(out, kind)
	return append(out, bytes.Join(payload, nil)...)
}

// ip4 is an IPv4 packet; fragment is the field of flags and offset.
func ip4(from, to string, proto byte, fragment uint16, payload ...[]byte) []byte {
	body := bytes.Join(payload, nil)
	h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h = append(append(h, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(h, body...)
}

// ip6 is an IPv6 packet whose first header is of the type next.
func ip6(from, to string, next byte, payload ...[]byte) []byte {
	body := bytes.Join(payload, nil)
	h := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	return append(append(append(h, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...), body...)
}

func udp(from, to uint16, payload string) []byte {
	h := binary.BigEndian.AppendUint16(nil, from)
	h = binary.BigEndian.AppendUint16(h, to)
	h = binary.BigEndian.AppendUint16(h, uint16(8+len(payload)))
	return append(append(h, 0, 0), payload...)
}

func arp(op byte, mac net.HardwareAddr, ip, target, mark string) []byte {
	out := []byte{0, 1, 8, 0, 6, 4, 0, op}
	out = append(append(out, mac...), netip.MustParseAddr(ip).AsSlice()...)
	out = append(append(out, 0, 0, 0, 0, 0, 0), netip.MustParseAddr(target).AsSlice()...)
	return append(out, mark...)
}

// icmp6 is an ICMPv6 message of a type; target is an address behind its first 8 bytes.
func icmp6(kind byte, target, mark string) []byte {
	out := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	if target != "" {
		out = append(out, netip.MustParseAddr(target).AsSlice()...)
	}
	return append(out, mark...)
}

// sysctlIn reads a setting below /proc/sys/net in a namespace.
func sysctlIn(t testing.TB, ns, name string) string {
	t.Helper()
	var got string
	inNS(t, ns, func() error {
		raw, err := os.ReadFile("/proc/sys/net/" + name)
		got = string(bytes.TrimSpace(raw))
		return err
	})
	return got
}

// mark is a text that a frame is known by.
func mark(kind string, i int) string { return fmt.Sprintf("<%s-%03d>", kind, i) }
