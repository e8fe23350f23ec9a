package server

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// attach adds the files that came with the request to who gets the container's output, and answers with a copy of the
// way to its stdin. Nothing passes through the shim on the way in.
func (s *server) attach(req shim.AttachRequest, files []*os.File) (*os.File, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, err
	}
	if c.exited() != nil {
		return nil, fmt.Errorf("container %s does not run", req.Container)
	}
	next := 0
	for i, want := range []bool{req.Stdout, req.Stderr} {
		if !want {
			continue
		}
		if next >= len(files) {
			return nil, errors.New("a file is missing in the attach request")
		}
		f := files[next]
		next++
		if i >= len(c.io.outputs) {
			continue // a terminal has no stderr
		}
		copied, err := duplicate(f)
		if err != nil {
			return nil, err
		}
		c.io.outputs[i].attach(copied)
	}
	if !req.Stdin {
		return nil, nil
	}
	return c.io.takeStdin()
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
