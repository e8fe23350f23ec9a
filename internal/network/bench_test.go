package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// BenchmarkSetup is one Pod's set-up and teardown; set-up alone is reported too.
func BenchmarkSetup(b *testing.B) {
	needRoot(b)
	n := newNetwork(b, nil)
	var setup time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		ns := newNS(b)
		id := fmt.Sprintf("pod-%d", i)
		b.StartTimer()
		start := time.Now()
		_, err := n.Setup(b.Context(), Request{ID: id, NetNSPath: ns})
		setup += time.Since(start)
		check(b, err)
		check(b, n.Teardown(b.Context(), id, ns))
	}
	b.ReportMetric(float64(setup.Microseconds())/float64(b.N), "setup-µs/op")
}

// BenchmarkSetupBesideOthers is one more Pod's set-up and teardown on a node that has 100 Pods with a host port each.
func BenchmarkSetupBesideOthers(b *testing.B) {
	needRoot(b)
	n := newNetwork(b, nil)
	for i := range 100 {
		pod(b, n, fmt.Sprintf("other-%d", i), &runtimeapi.PortMapping{ContainerPort: 80, HostPort: int32(20000 + i)})
	}
	ns := newNS(b)
	for b.Loop() {
		_, err := n.Setup(b.Context(), Request{ID: "pod", NetNSPath: ns, PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 8080}}})
		check(b, err)
		check(b, n.Teardown(b.Context(), "pod", ns))
	}
}

// twoPods are the namespaces of two Pods and the address of the first.
func twoPods(b *testing.B) (server, client, address string) {
	n := newNetwork(b, nil)
	server, ips := pod(b, n, "server")
	client, _ = pod(b, n, "client")
	return server, client, ips[0].String()
}

// BenchmarkThroughput is the transfer of a MiB between two Pods by TCP.
func BenchmarkThroughput(b *testing.B) {
	needRoot(b)
	server, client, ip := twoPods(b)
	inNS(b, server, func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		b.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(io.Discard, c)
		}()
		return nil
	})
	var conn net.Conn
	inNS(b, client, func() (err error) {
		conn, err = net.DialTimeout("tcp", ip+":80", 5*time.Second)
		return err
	})
	defer conn.Close()
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		_, err := conn.Write(buf)
		check(b, err)
	}
}

// BenchmarkRoundTrip is a UDP packet of 32 bytes between two Pods and its answer: what a packet costs.
func BenchmarkRoundTrip(b *testing.B) {
	needRoot(b)
	server, client, ip := twoPods(b)
	inNS(b, server, func() error {
		c, err := net.ListenPacket("udp4", ":53")
		if err != nil {
			return err
		}
		b.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64)
			for {
				n, peer, err := c.ReadFrom(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				_, _ = c.WriteTo(buf[:n], peer)
			}
		}()
		return nil
	})
	var conn net.Conn
	inNS(b, client, func() (err error) {
		conn, err = net.Dial("udp4", ip+":53")
		return err
	})
	defer conn.Close()
	check(b, conn.SetDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 32)
	for b.Loop() {
		_, err := conn.Write(buf)
		check(b, err)
		_, err = conn.Read(buf)
		check(b, err)
	}
}
