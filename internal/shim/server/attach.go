package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// Attached clients must not slow the container down: what it writes goes to its log, whoever looks on. An output that
// finds the pipe of a client full waits only while it has credit: maxCredit at most, which it earns by what clients
// take, a second a creditRate. So however many clients are attached, and whatever they do, a container is never held
// up for more than maxCredit at a time, nor to less than creditRate. A client that is still in the way is let go with
// an error: the log has all of it.
//
// Kubernetes' CRI runtimes wait for a client without a limit. The rate is what a client on a slow line can take, so
// that `kubectl run -i … | tar x` works as there; a container that writes less than that never waits for longer
// than the credit in all.
const (
	maxCredit  = time.Second
	creditRate = 1 << 20 // bytes
	// minWait is how long a write waits without credit: a deadline that has passed would fail the write of a client
	// whose pipe has room.
	minWait = 10 * time.Millisecond
)

// attachment is a client that is attached to one or two outputs.
type attachment struct {
	mu   sync.Mutex
	open int      // outputs that it is attached to
	end  *os.File // nil when the end is not to be reported
	said shim.AttachEnd
}

// leave takes one output away and reports the end with the last one.
func (a *attachment) leave(slow bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said.Slow = a.said.Slow || slow
	if a.open--; a.open > 0 || a.end == nil {
		return
	}
	if text, err := json.Marshal(a.said); err == nil {
		_ = a.end.SetWriteDeadline(time.Now().Add(minWait)) // a few bytes into an empty pipe
		_, _ = a.end.Write(text)
	}
	_ = a.end.Close()
	a.end = nil
}

// client is the pipe of an attachment at an output.
type client struct {
	f  *os.File
	of *attachment
}

func (c *client) close(slow bool) {
	_ = c.f.Close()
	c.of.leave(slow)
}

// attach adds the files that came with the request to the clients that get the container's output, and returns a copy
// of the way to its stdin. Nothing passes through the shim on the way in.
func (s *server) attach(req shim.AttachRequest, files []*os.File) (*os.File, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, err
	}
	if c.exited() != nil {
		return nil, fmt.Errorf("container %s does not run", req.Container)
	}
	if (req.Stdout || req.Stderr) && c.io.closed() {
		return nil, fmt.Errorf("container %s does not run any more, or has closed its output", req.Container)
	}
	a := &attachment{open: 1} // held open until all is attached
	defer a.leave(false)
	if req.End {
		if len(files) == 0 {
			return nil, errors.New("a file is missing in the attach request")
		}
		last := len(files) - 1
		if a.end, err = duplicate(files[last]); err != nil {
			return nil, err
		}
		files = files[:last]
	}
	for i, want := range []bool{req.Stdout, req.Stderr} {
		if !want {
			continue
		}
		if len(files) == 0 {
			return nil, errors.New("a file is missing in the attach request")
		}
		f := files[0]
		files = files[1:]
		if i >= len(c.io.outputs) {
			continue // a terminal has no stderr
		}
		copied, err := duplicate(f)
		if err != nil {
			return nil, err
		}
		c.io.outputs[i].attach(copied, a)
	}
	if !req.Stdin {
		return nil, nil
	}
	return c.io.takeStdin()
}

// closed reports whether the container has closed all its outputs.
func (s *streams) closed() bool {
	for _, o := range s.outputs {
		o.mu.Lock()
		over := o.over
		o.mu.Unlock()
		if !over {
			return false
		}
	}
	return true
}

// attach adds a client. Of an output that is over it gets the end.
func (o *output) attach(f *os.File, a *attachment) {
	c := &client{f: f, of: a}
	o.mu.Lock()
	a.mu.Lock()
	a.open++
	a.said.Before += o.written
	a.mu.Unlock()
	over := o.over
	if !over {
		o.attached = append(o.attached[:len(o.attached):len(o.attached)], c)
	}
	o.mu.Unlock()
	if over {
		c.close(false)
	}
}

// tee writes to all attached clients and lets go of those that are gone or too slow.
func (o *output) tee(data []byte) {
	o.mu.Lock()
	o.written += int64(len(data))
	list := o.attached
	o.mu.Unlock()
	for _, c := range list {
		begin := time.Now()
		_ = c.f.SetWriteDeadline(begin.Add(max(o.credit, minWait)))
		n, err := c.f.Write(data)
		o.credit = credit(o.credit, n, time.Since(begin))
		if err != nil {
			o.detach(c, errors.Is(err, os.ErrDeadlineExceeded))
		}
	}
}

// credit returns how long an output may wait for clients after one of them has taken n bytes in the time.
func credit(before time.Duration, n int, took time.Duration) time.Duration {
	earned := time.Duration(n) * time.Second / creditRate
	return min(maxCredit, max(0, before-took)+earned)
}

func (o *output) detach(c *client, slow bool) {
	o.mu.Lock()
	var rest []*client
	found := false
	for _, a := range o.attached {
		if a != c {
			rest = append(rest, a)
		} else {
			found = true
		}
	}
	o.attached = rest
	o.mu.Unlock()
	if found {
		c.close(slow)
	}
}

// finish lets go of all clients: the container has closed the output.
func (o *output) finish() {
	o.mu.Lock()
	list := o.attached
	o.attached, o.over = nil, true
	o.mu.Unlock()
	for _, c := range list {
		c.close(false)
	}
}

// takeStdin copies the way to the container's stdin. The first to ask for a stdin that is open once gets the only one.
func (s *streams) takeStdin() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return nil, nil
	}
	copied, err := duplicate(s.stdin)
	if err == nil && s.req.StdinOnce && !s.req.TTY {
		_ = s.stdin.Close()
		s.stdin = nil
	}
	return copied, err
}

// duplicate copies a descriptor; the copy does not block.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var derr error
	if err := raw.Control(func(old uintptr) { fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if derr != nil {
		return nil, os.NewSyscallError("fcntl", derr)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
