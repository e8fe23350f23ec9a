package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"podium.dev/podium/internal/shim"
)

// execs are the processes besides the containers' first ones that somebody waits for.
type execs struct {
	mu      sync.Mutex
	next    uint64
	waiting map[execKey]chan shim.Exit
}

type execKey struct{ sandbox, container, id string }

func newExecs() *execs { return &execs{waiting: map[execKey]chan shim.Exit{}} }

func (e *execs) add(c *container) (string, chan shim.Exit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	id := fmt.Sprintf("%d-%d", os.Getpid(), e.next)
	ch := make(chan shim.Exit, 1)
	e.waiting[execKey{c.SandboxID, c.ID, id}] = ch
	return id, ch
}

func (e *execs) drop(c *container, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waiting, execKey{c.SandboxID, c.ID, id})
}

// ended hands an exit to who waits for it.
func (e *execs) ended(ev shim.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, ch := range e.waiting {
		if k.container == ev.Container && k.id == ev.Exec {
			ch <- ev.Exit
			delete(e.waiting, k)
		}
	}
}

// endAll ends the waiting for all of a sandbox whose shim is gone.
func (e *execs) endAll(sandbox string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, ch := range e.waiting {
		if k.sandbox == sandbox {
			ch <- shim.Exit{Code: killedExitCode, Signal: int(unix.SIGKILL)}
			delete(e.waiting, k)
		}
	}
}

// process is a running exec.
type process struct {
	r      *Runtime
	c      *container
	sh     shim.Shim
	id     string
	exited <-chan shim.Exit
}

// exec starts a process in a running container with the files, which stay the caller's to close. A request with
// WithCaller makes one that does not outlive this process.
func (r *Runtime) exec(ctx context.Context, id string, req shim.ExecRequest, files ...*os.File) (*process, error) {
	c, err := r.store.container(id)
	if err != nil {
		return nil, fmt.Errorf("failed to find container %q in store: %w", id, err)
	}
	if st := c.get().State; st != stateRunning {
		return nil, status.Errorf(codes.FailedPrecondition, "container is in %s state", criState(st))
	}
	if len(req.Args) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no command specified")
	}
	c.sandbox.mu.Lock()
	sh := c.sandbox.shim
	c.sandbox.mu.Unlock()
	if sh == nil {
		return nil, fmt.Errorf("exec in container %q: %w", c.ID, shim.ErrGone)
	}
	eid, exited := r.execs.add(c)
	req.Container, req.ID = c.ID, eid
	p := &process{r: r, c: c, sh: sh, id: eid, exited: exited}
	if err := p.start(ctx, req, files); err != nil {
		r.execs.drop(c, eid)
		return nil, fmt.Errorf("failed to exec in container %q: %w", c.ID, err)
	}
	return p, nil
}

// start asks the shim for the process. If ctx ends first, the process is killed as soon as it has started.
func (p *process) start(ctx context.Context, req shim.ExecRequest, files []*os.File) error {
	copies, err := duplicates(files) // the caller's may be closed before they are sent
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer closeFiles(copies)
		_, err := p.sh.Exec(context.WithoutCancel(ctx), req, copies...)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		go func() {
			if <-done == nil {
				p.kill()
			}
		}()
		return ctx.Err()
	}
}

// duplicates are other descriptors of the same files.
func duplicates(files []*os.File) (out []*os.File, err error) {
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			closeFiles(out)
			return nil, err
		}
		var fd int
		var derr error
		if err := raw.Control(func(old uintptr) { fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || derr != nil {
			closeFiles(out)
			return nil, errors.Join(err, derr)
		}
		out = append(out, os.NewFile(uintptr(fd), f.Name()))
	}
	return out, nil
}

// kill ends the process and what it has started.
func (p *process) kill() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.r.ctx), cleanTimeout)
	defer cancel()
	err := p.sh.Signal(ctx, shim.SignalRequest{Container: p.c.ID, Exec: p.id, Signal: int(unix.SIGKILL), All: true})
	if err != nil && !errors.Is(err, shim.ErrGone) && !errors.Is(err, shim.ErrNotFound) {
		p.r.log.Error(err, "Could not kill a process that was to end", "container", p.c.ID)
	}
}

// idle is how long, once a process has ended, its output is waited for that another process may still hold open.
const idle = 2 * time.Second

// output is the reading end of a process's stdout or stderr. Once the process has ended it ends too when nothing has
// come for a while, even if a process left behind holds the other end; and at once when nobody wants it any more.
type output struct {
	*os.File
	ended, unwanted atomic.Bool
}

func (o *output) end() {
	o.ended.Store(true)
	wait := idle
	if o.unwanted.Load() {
		wait = 0
	}
	_ = o.SetReadDeadline(time.Now().Add(wait))
}

func (o *output) Read(b []byte) (int, error) {
	if o.ended.Load() {
		if o.unwanted.Load() {
			return 0, io.EOF
		}
		_ = o.SetReadDeadline(time.Now().Add(idle))
	}
	return o.File.Read(b)
}
