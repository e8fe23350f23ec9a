package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// sandbox is the running pause.
type sandbox struct {
	spec     shim.SandboxSpec
	state    shim.SandboxState
	lifeline *os.File // pause ends when this is closed, so with the shim
	exit     <-chan struct{}
}

// start makes the pause process with the Pod's namespaces. When it fails the shim ends.
func (s *server) start(req shim.StartRequest) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sandbox != nil {
		return nil, fmt.Errorf("sandbox %s was started already", s.sandbox.spec.ID)
	}
	sb, exited, err := s.startPause(&req)
	if err != nil {
		return nil, fmt.Errorf("start the pause process of sandbox %s: %w", req.Spec.ID, err)
	}
	s.sandbox, s.programs, s.logs = sb, req, req.Spec.Logs
	gone := make(chan struct{})
	sb.exit = gone
	go s.awaitPause(exited, gone)
	return sb.state, nil
}

// pauseRoot is the folder, in the shim's, that pause mounts its root on (in its own mount namespace).
const pauseRoot = "pause"

func (s *server) startPause(req *shim.StartRequest) (_ *sandbox, _ <-chan shim.Exit, err error) {
	spec := req.Spec
	if err := os.MkdirAll(pauseRoot, 0o700); err != nil {
		return nil, nil, err
	}
	root, err := filepath.Abs(pauseRoot)
	if err != nil {
		return nil, nil, err
	}
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer lifeRead.Close()
	defer func() {
		if err != nil {
			_ = lifeWrite.Close()
		}
	}()
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer readyRead.Close()
	// Containers that share pause's PID namespace may look into it: what it runs is a copy that nobody can change,
	// and it has no descriptor of the host's.
	program := req.Pause
	if sealed, err := sealedProgram(req.Pause, "pause"); err == nil {
		defer sealed.Close()
		program = fmt.Sprintf("/proc/self/fd/%d", sealed.Fd())
	}
	const none = ^uintptr(0)
	argv := []string{"/pause", "3", "4", spec.Hostname, strconv.FormatInt(spec.ShmBytes, 10), root}
	for k, v := range spec.Sysctls {
		argv = append(argv, k+"="+v)
	}
	pid, exited, err := s.reaper.fork(program, argv, &syscall.ProcAttr{
		Files: []uintptr{none, none, none, lifeRead.Fd(), readyWrite.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Cloneflags: cloneFlags(spec)},
	})
	_ = readyWrite.Close()
	if err != nil {
		return nil, nil, err
	}
	sb := &sandbox{spec: spec, lifeline: lifeWrite}
	sb.state = shim.SandboxState{ShimPID: os.Getpid(), PausePID: pid, StartedAt: time.Now().UTC()}
	if err := s.settlePause(sb, readyRead); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		if exit := <-exited; exit.Signal != int(unix.SIGKILL) && exit.Code != pauseFailed {
			err = fmt.Errorf("it ended with code %d: %w", exit.Code, err)
		}
		if spec.NetNSFile != "" {
			_ = unpin(spec.NetNSFile)
		}
		return nil, nil, err
	}
	return sb, exited, nil
}

func cloneFlags(spec shim.SandboxSpec) uintptr {
	flags := uintptr(unix.CLONE_NEWNS)
	for flag, want := range map[uintptr]bool{
		unix.CLONE_NEWNET: spec.Net, unix.CLONE_NEWUTS: spec.UTS, unix.CLONE_NEWIPC: spec.IPC, unix.CLONE_NEWPID: spec.PID,
	} {
		if want {
			flags |= flag
		}
	}
	return flags
}

const (
	// pauseFailed is the code that pause ends with after it has said why (pause.c, check).
	pauseFailed = 1
	// maxPauseWords is the size of the line that pause has for it (pause.c, say).
	maxPauseWords = 512
)

// settlePause puts pause where it belongs and waits until it has set itself up.
//
// A pause that cannot set itself up ends, and then whatever is done to it here fails because of that. So its own words,
// which name the cause, come before any error of ours.
func (s *server) settlePause(sb *sandbox, ready io.Reader) error {
	pid := sb.state.PausePID
	placed := enterCgroups(pid, sb.spec.Cgroups)
	// The Pod lives no longer than its shim, which otherwise has the score of whatever started the daemon.
	_ = setOOMScore(os.Getpid(), sb.spec.OOMScoreAdj)
	note := setOOMScore(pid, sb.spec.OOMScoreAdj)
	said, err := io.ReadAll(io.LimitReader(ready, maxPauseWords))
	if len(said) > 0 {
		return errors.New(pauseWords(string(said)))
	}
	if err := errors.Join(placed, err); err != nil {
		return err
	}
	if note != "" {
		sb.state.Notes = append(sb.state.Notes, note)
	}
	if sb.spec.Net && sb.spec.NetNSFile != "" {
		return pin(fmt.Sprintf("/proc/%d/ns/net", pid), sb.spec.NetNSFile)
	}
	return nil
}

// enterCgroups moves a process into the cgroups of these folders.
func enterCgroups(pid int, dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0); err != nil {
			return err
		}
	}
	return nil
}

// pauseWords is what pause says of its failure with the error in words: pause links no libc and knows numbers only.
func pauseWords(said string) string {
	const sep = ": errno "
	at := strings.LastIndex(said, sep)
	if at < 0 {
		return said
	}
	n, err := strconv.ParseUint(strings.TrimSpace(said[at+len(sep):]), 10, 16)
	if err != nil {
		return said
	}
	return said[:at] + ": " + syscall.Errno(n).Error()
}

// setOOMScore sets a process's oom_score_adj, and says so if it may not.
func setOOMScore(pid, score int) string {
	file := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	err := os.WriteFile(file, strconv.AppendInt(nil, int64(score), 10), 0)
	if err == nil {
		return ""
	}
	return fmt.Sprintf("oom_score_adj of the pause process is not %d: %v", score, err)
}

// pin binds a namespace to a file, which keeps it and gives it a name.
func pin(ns, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount(ns, file, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind a network namespace to", Path: file, Err: err}
	}
	return nil
}

func unpin(file string) error {
	_ = unix.Unmount(file, unix.MNT_DETACH)
	return os.Remove(file)
}

// awaitPause notes pause's end and tells the daemon.
func (s *server) awaitPause(exited <-chan shim.Exit, gone chan<- struct{}) {
	exit := <-exited
	s.mu.Lock()
	asked := s.stopping
	if !asked {
		s.sandbox.state.PauseExit = &exit
	}
	s.mu.Unlock()
	close(gone)
	if !asked {
		s.send(shim.Event{Exit: exit})
	}
}

// stop kills the containers, then pause, and waits for all of them. From its beginning nobody new can connect.
func (s *server) stop() error {
	_ = os.Remove(shim.SocketName)
	s.mu.Lock()
	s.stopping = true
	sb := s.sandbox
	list := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		list = append(list, c)
	}
	s.mu.Unlock()
	for _, c := range list {
		c.kill(unix.SIGKILL, true)
	}
	for _, c := range list {
		<-c.done
	}
	if sb == nil {
		return nil
	}
	_ = sb.lifeline.Close()
	_ = unix.Kill(sb.state.PausePID, unix.SIGKILL)
	<-sb.exit
	return nil
}
