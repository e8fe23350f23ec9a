package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/util/atomicfile"
)

// container is one that is being started, runs, or has ended.
type container struct {
	req    shim.RunRequest
	result shim.RunResult // once up is closed without an error
	up     chan struct{}  // closed when the start is over
	done   chan struct{}  // closed when the container has ended, or was not started
	err    error          // why it was not started
	io     *streams
	oom    *oomWatch // once up is closed without an error

	mu    sync.Mutex
	pidfd int // -1 when there is no process
	exit  *shim.Exit
	execs map[string]*execution
}

// run starts a container. Asking again for one that was started returns the same result.
func (s *server) run(req shim.RunRequest) (any, error) {
	s.mu.Lock()
	if s.sandbox == nil || s.stopping || s.sandbox.state.PauseExit != nil {
		s.mu.Unlock()
		return nil, errors.New("the sandbox does not run")
	}
	c, ok := s.containers[req.ID]
	if !ok {
		c = &container{req: req, up: make(chan struct{}), done: make(chan struct{}), pidfd: -1, execs: map[string]*execution{}}
		s.containers[req.ID] = c
	}
	s.mu.Unlock()
	if !ok {
		s.begin(c)
	}
	<-c.up
	return c.result, c.err
}

// begin starts the container and closes up; when that fails nothing of it is left here.
func (s *server) begin(c *container) {
	defer close(c.up)
	exited, err := s.launch(c)
	if err != nil {
		c.err = err
		s.mu.Lock()
		delete(s.containers, c.req.ID)
		s.mu.Unlock()
		close(c.done)
		return
	}
	go s.await(c, exited)
	s.mu.Lock()
	late := s.stopping
	s.mu.Unlock()
	if late {
		c.kill(unix.SIGKILL, true)
	}
}

// launch has the container made with its streams in place.
func (s *server) launch(c *container) (<-chan shim.Exit, error) {
	s.mu.Lock()
	limits := s.logs
	s.mu.Unlock()
	streams, child, err := openStreams(c.req, limits)
	if err != nil {
		return nil, err
	}
	defer child.close()
	end := s.reaper.begin()
	defer end()
	res, err := s.oci(c.req.Dir, ociRequest{ID: c.req.ID, Terminal: c.req.TTY}, child.files(), true)
	if err != nil {
		streams.close()
		return nil, err
	}
	exited := s.reaper.watch(res.PID)
	if fd, err := unix.PidfdOpen(res.PID, 0); err == nil { // else it has ended already
		c.mu.Lock()
		c.pidfd = fd
		c.mu.Unlock()
	}
	c.result = shim.RunResult{
		PID: res.PID, StartedAt: time.Now().UTC(), Cgroups: res.Cgroups, UID: res.UID, GID: res.GID, Groups: res.Groups, Notes: res.Notes,
	}
	if c.req.TTY {
		if err := streams.receiveTerminal(child.console); err != nil {
			_ = unix.Kill(res.PID, unix.SIGKILL)
			<-exited
			streams.close()
			return nil, fmt.Errorf("take the terminal of container %s: %w", c.req.ID, err)
		}
	}
	c.io = streams
	c.oom = s.watchOOM(c.req.ID, res.Cgroups)
	streams.pump()
	return exited, nil
}

// drainTimeout is how long an ended container's last output is waited for when another process holds its streams.
const drainTimeout = 2 * time.Second

// await notes the container's end: its code and time are on disk before anyone is told.
func (s *server) await(c *container, exited <-chan shim.Exit) {
	exit := <-exited
	<-c.up
	exit.Memory = c.oom.stop()
	exit.OOM = exit.Memory != nil
	if c.req.KillAll {
		signalCgroup(c.result.Cgroups, unix.SIGKILL)
	}
	c.io.drain(drainTimeout)
	if err := writeExit(c.req.ExitFile, exit); err != nil {
		fmt.Fprintf(os.Stderr, "keep the exit of container %s: %v\n", c.req.ID, err)
	}
	c.mu.Lock()
	c.exit = &exit
	if c.pidfd >= 0 {
		_ = unix.Close(c.pidfd)
		c.pidfd = -1
	}
	c.mu.Unlock()
	close(c.done)
	s.send(shim.Event{Container: c.req.ID, Exit: exit})
}

// started reports whether the container was started, whether or not it has ended since.
func (c *container) started() bool {
	select {
	case <-c.up:
		return c.err == nil
	default:
		return false
	}
}

func (c *container) exited() *shim.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// kill signals the container's first process, or all of them. It is no error if there is none.
func (c *container) kill(sig syscall.Signal, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd < 0 {
		return
	}
	if all && c.req.KillAll {
		signalCgroup(c.result.Cgroups, sig)
	}
	_ = unix.PidfdSendSignal(c.pidfd, sig, nil, 0)
}

func (s *server) signal(req shim.SignalRequest) (any, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, err
	}
	sig := syscall.Signal(req.Signal)
	if req.Exec == "" {
		c.kill(sig, req.All)
		return nil, nil
	}
	c.mu.Lock()
	e := c.execs[req.Exec]
	c.mu.Unlock()
	if e != nil {
		e.kill(sig, req.All)
	}
	return nil, nil
}

func (s *server) reopen(req shim.ContainerRef) (any, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, err
	}
	return nil, c.io.log.reopen()
}

// limitLogs sets the limits of the logs of the containers that run and of those to come.
func (s *server) limitLogs(limits shim.LogLimits) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = limits
	for _, c := range s.containers {
		if c.started() {
			c.io.log.limit(limits)
		}
	}
	return nil, nil
}

func (s *server) forget(req shim.ContainerRef) (any, error) {
	c, err := s.find(req.Container)
	if err != nil {
		return nil, nil // forgotten already
	}
	if c.exited() == nil {
		return nil, fmt.Errorf("container %s runs", req.Container)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, req.Container)
	return nil, nil
}

// writeExit replaces the file of the exit in one step.
func writeExit(file string, exit shim.Exit) error {
	data, err := json.Marshal(exit)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, data, 0o600, atomicfile.Crash)
}

// cgroupDir is the folder whose processes are the container's, and whether it is cgroup v2's.
func cgroupDir(dirs map[string]string) (dir string, v2 bool) {
	if d, ok := dirs["memory"]; ok {
		return d, false
	}
	return dirs[""], true
}

// signalCgroup signals every process in the cgroup.
func signalCgroup(dirs map[string]string, sig syscall.Signal) {
	dir, v2 := cgroupDir(dirs)
	if v2 && sig == unix.SIGKILL && os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			_ = unix.Kill(pid, sig)
		}
	}
}
