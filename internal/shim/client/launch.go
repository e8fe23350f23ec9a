package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// Programs are the paths of the runtime's three static programs.
type Programs struct {
	Shim, OCI, Pause string
	// Place, when not nil, is called with each shim's process before it starts anything: it moves the shim, and with it all that
	// it will start, out of the cgroup of this process.
	Place func(pid int) error
}

// Launcher starts real shims. It implements shim.Launcher.
type Launcher struct{ programs Programs }

// NewLauncher checks that the programs are there.
func NewLauncher(p Programs) (*Launcher, error) {
	for _, file := range []string{p.Shim, p.OCI, p.Pause} {
		if err := unix.Access(file, unix.X_OK); err != nil {
			return nil, fmt.Errorf("the container runtime's program %s cannot be executed: %w", file, err)
		}
	}
	return &Launcher{programs: p}, nil
}

// stopTimeout is how long a shim whose start failed has to end.
const stopTimeout = 10 * time.Second

// logName is the file, in the shim's folder, of what a shim says when it fails.
const logName = "shim.log"

// Launch starts a shim and has it start the sandbox.
func (l *Launcher) Launch(ctx context.Context, spec shim.SandboxSpec) (shim.Shim, shim.SandboxState, error) {
	var st shim.SandboxState
	conn, err := l.spawn(spec.Dir)
	if err != nil {
		return nil, st, fmt.Errorf("start the shim of sandbox %s: %w", spec.ID, err)
	}
	c := newClient(conn)
	req := shim.StartRequest{Spec: spec, OCI: l.programs.OCI, Pause: l.programs.Pause}
	if err := c.do(ctx, shim.MethodStart, req, &st); err != nil {
		// Without a sandbox it ends with its first connection; with one (the caller gave up too late) by Stop.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = c.Stop(stop)
		_ = c.Close()
		return nil, st, withLog(err, spec.Dir)
	}
	return c, st, nil
}

// spawn starts the program in its folder with one end of a connection, and reaps it when it ends while this process
// lives.
func (l *Launcher) spawn(dir string) (*shim.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "shim connection")
	defer theirs.Close()
	conn, err := shim.NewConn(pair[0])
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(l.programs.Shim)
	cmd.Dir, cmd.Stderr = dir, log
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=single"}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	go func() { _ = cmd.Wait() }()
	if place := l.programs.Place; place != nil {
		if err := place(cmd.Process.Pid); err != nil {
			_ = conn.Close() // which ends it
			return nil, err
		}
	}
	return conn, nil
}

// withLog adds what a dying shim said.
func withLog(err error, dir string) error {
	said, _ := os.ReadFile(filepath.Join(dir, logName))
	if errors.Is(err, shim.ErrGone) && len(said) > 0 {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// Connect reaches a running shim by its socket.
func (l *Launcher) Connect(_ context.Context, dir string) (shim.Shim, error) {
	conn, err := shim.Dial(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("%s: %w", dir, shim.ErrGone)
	}
	if err != nil {
		return nil, err
	}
	return newClient(conn), nil
}
