package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PortForward returns the URL at which streams to the Pod's ports are.
func (r *Runtime) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if !sb.get().Ready {
		return nil, status.Error(codes.FailedPrecondition, "sandbox container is not running")
	}
	return r.streaming.GetPortForward(req)
}

// portForward connects the stream to a port of the Pod's loopback address until either end closes it.
func (r *Runtime) portForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	sb, err := r.store.sandbox(id)
	if err != nil {
		return err
	}
	if !sb.get().Ready {
		return fmt.Errorf("sandbox %q is not running", sb.ID)
	}
	conn, err := dialIn(ctx, sb.NetNS, port)
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace %q: failed to connect to localhost:%d inside namespace %q: %w", sb.NetNS, port, sb.ID, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	toClient := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, conn)
		toClient <- err
	}()
	_, err = io.Copy(conn, stream)
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite() // the answer to all that was sent may still come
	}
	return errors.Join(err, <-toClient)
}

// dialIn connects to a port of the loopback address in a network namespace, by IPv4 or else IPv6; in this process's
// for no file.
func dialIn(ctx context.Context, netns string, port int32) (net.Conn, error) {
	dial := func() (net.Conn, error) {
		var d net.Dialer
		p := strconv.Itoa(int(port))
		conn, err4 := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", p))
		if err4 == nil {
			return conn, nil
		}
		conn, err6 := d.DialContext(ctx, "tcp6", net.JoinHostPort("::1", p))
		if err6 == nil {
			return conn, nil
		}
		return nil, err4
	}
	if netns == "" {
		return dial()
	}
	type answer struct {
		conn net.Conn
		err  error
	}
	ch := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread has left its namespace and ends with the goroutine
		f, err := os.Open(netns)
		if err != nil {
			ch <- answer{nil, err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			ch <- answer{nil, os.NewSyscallError("setns", err)}
			return
		}
		conn, err := dial()
		ch <- answer{conn, err}
	}()
	a := <-ch
	return a.conn, a.err
}
