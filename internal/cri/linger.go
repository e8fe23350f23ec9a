package cri

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxLinger is how long a connection of streams outlives its end when the client does not close it: one that was
// stopped for a while must still get what it has not read.
const maxLinger = 2 * time.Minute

// lingering accepts connections that are closed by the client first.
//
// A client of SPDY ends all its streams when the connection ends, also those whose last frames it has received and not
// yet handed out (github.com/moby/spdystream, Connection.Serve). When the server closes it right after the last of the
// output and the status, which package remotecommand does, a client that is slow by a moment loses both, and takes that
// for success. A client that has the status closes the connection itself, so the server waits for that.
type lingering struct {
	net.Listener
	ctx context.Context // ends all lingering
}

func (l lingering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lingerConn{Conn: conn, ctx: l.ctx}, nil
}

// lingerConn is closed for this end as soon as Close is called, and for the other end when that has closed it.
type lingerConn struct {
	net.Conn
	ctx     context.Context
	reading sync.Mutex
	closed  atomic.Bool
}

func (c *lingerConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(b)
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *lingerConn) Write(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *lingerConn) SetDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetDeadline(t)
}

func (c *lingerConn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(t)
}

// Close returns at once.
func (c *lingerConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = c.Conn.SetReadDeadline(time.Now()) // ends a Read under way
	go func() {
		c.reading.Lock() // until that has ended
		//lint:ignore SA2001 the lock is a wait, and must be free again for a Read that comes late
		c.reading.Unlock()
		defer c.Conn.Close()
		defer context.AfterFunc(c.ctx, func() { _ = c.Conn.Close() })()
		_ = c.Conn.SetDeadline(time.Now().Add(maxLinger))
		_, _ = io.Copy(io.Discard, c.Conn)
	}()
	return nil
}
