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

// server is the shim's state. A sandbox is started once; containers come and go.
type server struct {
	reaper   *reaper
	ended    chan struct{} // closed when the shim is to exit
	listener syscall.RawConn
	// startTimeout is the constant, except in tests.
	startTimeout time.Duration

	mu         sync.Mutex
	conns      map[*shim.Conn]bool
	sandbox    *sandbox
	containers map[string]*container
	programs   shim.StartRequest // the paths of the other programs
	stopping   bool
	logs       shim.LogLimits
}

func newServer() *server {
	return &server{
		reaper: newReaper(), ended: make(chan struct{}), startTimeout: startTimeout,
		conns: map[*shim.Conn]bool{}, containers: map[string]*container{},
	}
}

// listen makes the socket in the working directory, which is the shim's folder.
func (s *server) listen() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	_ = os.Remove(shim.SocketName)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: shim.SocketName}); err != nil {
		return os.NewSyscallError("bind "+shim.SocketName, err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		return os.NewSyscallError("listen", err)
	}
	f := os.NewFile(uintptr(fd), shim.SocketName)
	s.listener, err = f.SyscallConn()
	return err
}

// accept serves all clients until the listener is closed.
func (s *server) accept() {
	for {
		nfd := -1
		err := s.listener.Read(func(fd uintptr) bool {
			var err error
			nfd, _, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			return !errors.Is(err, unix.EAGAIN)
		})
		if err != nil {
			return
		}
		if nfd < 0 {
			continue
		}
		if conn, err := shim.NewConn(nfd); err == nil {
			go s.serve(conn, false)
		}
	}
}

// serve answers a connection's requests, each in a goroutine of its own, until it ends. The first connection's end
// ends a shim that has no sandbox yet.
func (s *server) serve(conn *shim.Conn, first bool) {
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		empty := first && s.sandbox == nil && !s.stopping
		s.mu.Unlock()
		_ = conn.Close()
		s.killExecsOf(conn)
		if empty {
			_ = os.Remove(shim.SocketName)
			s.end()
		}
	}()
	for {
		fr, files, err := conn.Read()
		if err != nil {
			return
		}
		go s.answer(conn, fr, files)
	}
}

// answer handles one request and replies to it. The files that came with it are closed.
func (s *server) answer(conn *shim.Conn, fr *shim.Frame, files []*os.File) {
	body, out, err := s.handle(conn, fr, files)
	for _, f := range files {
		_ = f.Close()
	}
	reply := &shim.Frame{ID: fr.ID}
	if err != nil {
		reply.Error = wireError(err)
	} else if body != nil {
		reply.Body, err = json.Marshal(body)
		if err != nil {
			reply.Error = wireError(err)
		}
	}
	if out == nil {
		err = conn.Write(reply)
	} else {
		err = conn.Write(reply, out)
		_ = out.Close()
	}
	if err != nil {
		_ = conn.Close()
	}
	if fr.Method == shim.MethodStop && reply.Error == nil {
		s.end()
	}
}

func wireError(err error) *shim.WireError {
	w := &shim.WireError{Message: err.Error()}
	var start *shim.StartError
	switch {
	case errors.Is(err, shim.ErrNotFound):
		w.Kind = shim.KindNotFound
	case errors.As(err, &start):
		w.Kind = shim.KindStart
	}
	return w
}

// handle does what a request asks for and returns the reply's body and the file to send with it.
func (s *server) handle(conn *shim.Conn, fr *shim.Frame, files []*os.File) (any, *os.File, error) {
	switch fr.Method {
	case shim.MethodStart:
		body, err := with(fr, s.start)
		return body, nil, err
	case shim.MethodState:
		return s.state(), nil, nil
	case shim.MethodRun:
		body, err := with(fr, s.run)
		return body, nil, err
	case shim.MethodExec:
		body, err := with(fr, func(req shim.ExecRequest) (any, error) { return s.exec(conn, req, files) })
		return body, nil, err
	case shim.MethodAttach:
		var req shim.AttachRequest
		if err := json.Unmarshal(fr.Body, &req); err != nil {
			return nil, nil, err
		}
		stdin, err := s.attach(req, files)
		return nil, stdin, err
	case shim.MethodSignal:
		body, err := with(fr, s.signal)
		return body, nil, err
	case shim.MethodReopen:
		body, err := with(fr, s.reopen)
		return body, nil, err
	case shim.MethodLimitLogs:
		body, err := with(fr, s.limitLogs)
		return body, nil, err
	case shim.MethodForget:
		body, err := with(fr, s.forget)
		return body, nil, err
	case shim.MethodStop:
		return nil, nil, s.stop()
	default:
		return nil, nil, fmt.Errorf("this shim has no method %q", fr.Method)
	}
}

// with decodes a request's body for its handler.
func with[T any](fr *shim.Frame, do func(T) (any, error)) (any, error) {
	var req T
	if err := json.Unmarshal(fr.Body, &req); err != nil {
		return nil, fmt.Errorf("decode the %s request: %w", fr.Method, err)
	}
	return do(req)
}

// send tells every connection of an exit.
func (s *server) send(e shim.Event) {
	body, err := json.Marshal(e)
	if err != nil {
		return
	}
	s.mu.Lock()
	conns := make([]*shim.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		if err := c.Write(&shim.Frame{Body: body}); err != nil {
			_ = c.Close()
		}
	}
}

// state lists all that the shim holds.
func (s *server) state() shim.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := shim.State{}
	if s.sandbox != nil {
		st.Sandbox = s.sandbox.state
	}
	for id, c := range s.containers {
		if !c.started() {
			continue
		}
		st.Containers = append(st.Containers, shim.ContainerState{ID: id, Result: c.result, Exit: c.exited()})
	}
	return st
}

// end lets Main return. Idempotent.
func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
}

// find returns a container that was started.
func (s *server) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok || !c.started() {
		return nil, fmt.Errorf("container %s: %w", id, shim.ErrNotFound)
	}
	return c, nil
}
