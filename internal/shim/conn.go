package shim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxFrame is above any message that makes sense: the longest command line that the kernel takes.
	maxFrame = 4 << 20
	// maxFiles may come with a frame.
	maxFiles = 3
	// writeTimeout ends a connection whose other end does not read.
	writeTimeout = 30 * time.Second
)

// Conn sends and receives frames, with descriptors, over a unix stream socket: four bytes of length, big endian,
// with which the descriptors travel, then JSON. One goroutine may read while others write.
type Conn struct {
	f   *os.File
	raw syscall.RawConn
	wmu sync.Mutex
}

// NewConn takes over a connected unix stream socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "shim connection")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Conn{f: f, raw: raw}, nil
}

// Dial connects to the socket in a shim's folder. A socket's path may have 107 bytes only, so the folder is opened
// and named by its descriptor.
func Dial(dir string) (*Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	name := filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), SocketName)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "connect", Path: filepath.Join(dir, SocketName), Err: err}
	}
	return NewConn(fd)
}

// Close ends the connection; a Read under way returns an error.
func (c *Conn) Close() error { return c.f.Close() }

// Write sends a frame and copies of the files.
func (c *Conn) Write(fr *Frame, files ...*os.File) error {
	body, err := json.Marshal(fr)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("a message of %d bytes to the shim is too long, the most is %d", len(body), maxFrame)
	}
	var rights []byte
	if len(files) > 0 {
		fds, err := descriptors(files)
		if err != nil {
			return err
		}
		rights = unix.UnixRights(fds...)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.f.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	msg := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	return c.sendmsg(msg, rights)
}

// descriptors are the files' numbers. File.Fd would make them blocking for all that share them.
func descriptors(files []*os.File) ([]int, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

// sendmsg sends a message whole; the descriptors go with its first byte.
func (c *Conn) sendmsg(msg, rights []byte) error {
	var n int
	var err error
	werr := c.raw.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), msg, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("send to the shim: %w", err)
	}
	if n < len(msg) {
		_, err = c.f.Write(msg[n:])
	}
	return err
}

// Read waits for a frame. The files that came with it are the caller's to close. io.EOF when the other end is gone.
func (c *Conn) Read() (*Frame, []*os.File, error) {
	head := make([]byte, 4)
	files, err := c.recvmsg(head)
	if err != nil {
		return nil, nil, err
	}
	fr, err := c.body(binary.BigEndian.Uint32(head))
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return fr, files, nil
}

func (c *Conn) body(size uint32) (*Frame, error) {
	if size > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes from the shim's other end is too long", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.f, body); err != nil {
		return nil, err
	}
	fr := &Frame{}
	return fr, json.Unmarshal(body, fr)
}

// recvmsg fills head and takes the descriptors that came with its first byte.
func (c *Conn) recvmsg(head []byte) ([]*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	var n, oobn int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), head, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case rerr != nil:
		return nil, rerr
	case err != nil:
		return nil, os.NewSyscallError("recvmsg", err)
	case n == 0:
		return nil, io.EOF
	}
	files, err := parseRights(oob[:oobn])
	if err == nil && n < len(head) {
		_, err = io.ReadFull(c.f, head[n:])
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, os.NewSyscallError("parse control message", err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
