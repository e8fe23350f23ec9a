package cri

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"podium.dev/podium/test/pace"
)

// The server says its last and closes, with bytes of the client unread. The client gets all of it, however late it
// reads, and the end of the connection only when it has closed it itself, or the runtime has.
func TestLingeringClose(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{"client", "runtime"} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := lingering{l, ctx}.Accept()
		if err != nil {
			t.Fatal(err)
		}
		reads := make(chan error, 1)
		go func() {
			_, err := server.Read(make([]byte, 1))
			reads <- err
		}()
		const last = "output and status"
		if _, err := io.WriteString(server, last); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-reads; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: a Read under way ends with %v", name, err)
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: a Write after Close: %v", name, err)
		}
		if _, err := io.WriteString(client, "nobody reads this"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(last))
		if _, err := io.ReadFull(client, got); err != nil || string(got) != last {
			t.Errorf("%s: the client reads %q (%v)", name, got, err)
		}
		_ = client.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := client.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server ends the connection first (%v)", name, err)
		}
		_ = client.SetReadDeadline(time.Now().Add(pace.Of(10 * time.Second)))
		if name == "client" {
			_ = client.(*net.TCPConn).CloseWrite()
		} else {
			cancel()
		}
		if _, err := client.Read(got); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("%s: the connection does not end (%v)", name, err)
		}
	}
}
