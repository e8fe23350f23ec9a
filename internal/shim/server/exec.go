package server

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// execution is a further process in a container.
type execution struct {
	conn       *shim.Conn
	withCaller bool
	pid        int

	mu    sync.Mutex
	pidfd int // -1 once it has ended
}

// exec starts a process with the files that came with the request. Its exit is told to the one who asked.
func (s *server) exec(conn *shim.Conn, req shim.ExecRequest, files []*os.File) (any, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, err
	}
	if c.exited() != nil {
		return nil, fmt.Errorf("container %s does not run", req.Container)
	}
	if req.TTY {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		files = append([]*os.File{null, null, null}, files...)
	}
	if want := map[bool]int{false: 3, true: 4}[req.TTY]; len(files) != want {
		return nil, fmt.Errorf("%d files came with the exec request, %d are needed", len(files), want)
	}
	end := s.reaper.begin()
	defer end()
	res, err := s.oci(c.req.Dir, ociRequest{ID: req.Container, Exec: true, Args: req.Args, Terminal: req.TTY}, files, false)
	if err != nil {
		return nil, err
	}
	exited := s.reaper.watch(res.PID)
	e := &execution{conn: conn, withCaller: req.WithCaller, pid: res.PID, pidfd: -1}
	if fd, err := unix.PidfdOpen(res.PID, 0); err == nil {
		e.pidfd = fd
	}
	c.mu.Lock()
	c.execs[req.ID] = e
	c.mu.Unlock()
	go s.awaitExec(c, req.ID, e, exited)
	return shim.ExecResult{PID: res.PID}, nil
}

func (s *server) awaitExec(c *container, id string, e *execution, exited <-chan shim.Exit) {
	exit := <-exited
	e.mu.Lock()
	if e.pidfd >= 0 {
		_ = unix.Close(e.pidfd)
		e.pidfd = -1
	}
	e.mu.Unlock()
	c.mu.Lock()
	delete(c.execs, id)
	c.mu.Unlock()
	s.send(shim.Event{Container: c.req.ID, Exec: id, Exit: exit})
}

// kill signals the process, or its process group: libcontainer makes every process the leader of a session.
func (e *execution) kill(sig syscall.Signal, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pidfd < 0 {
		return
	}
	if all {
		_ = unix.Kill(-e.pid, sig)
	}
	_ = unix.PidfdSendSignal(e.pidfd, sig, nil, 0)
}

// killExecsOf ends the processes that were to live no longer than this connection.
func (s *server) killExecsOf(conn *shim.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		c.mu.Lock()
		for _, e := range c.execs {
			if e.conn == conn && e.withCaller {
				e.kill(unix.SIGKILL, true)
			}
		}
		c.mu.Unlock()
	}
}
