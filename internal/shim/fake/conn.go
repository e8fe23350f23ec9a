package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/bundle"
)

// conn is one connection to a scripted shim. It implements shim.Shim.
type conn struct {
	pod    *pod
	events chan shim.Event
}

// container is one that was started.
type container struct {
	req    shim.RunRequest
	result shim.RunResult
	proc   *process
	log    *logFile
	stdin  *io.PipeWriter

	mu       sync.Mutex
	exit     *shim.Exit
	attached [2][]*os.File
	written  [2]int64
	once     bool // stdin was handed out
	execs    map[string]*process
}

// locked runs do while the shim lives.
func (c *conn) locked(do func(p *pod) error) error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if c.pod.gone || !c.pod.conns[c] {
		return shim.ErrGone
	}
	return do(c.pod)
}

func (c *conn) find(id string) (k *container, err error) {
	return k, c.locked(func(p *pod) error {
		if k = p.containers[id]; k == nil {
			return fmt.Errorf("container %s: %w", id, shim.ErrNotFound)
		}
		return nil
	})
}

func (c *conn) State(context.Context) (st shim.State, err error) {
	return st, c.locked(func(p *pod) error {
		st.Sandbox = p.state
		for id, k := range p.containers {
			k.mu.Lock()
			st.Containers = append(st.Containers, shim.ContainerState{ID: id, Result: k.result, Exit: k.exit})
			k.mu.Unlock()
		}
		return nil
	})
}

func (c *conn) Run(_ context.Context, req shim.RunRequest) (res shim.RunResult, err error) {
	b, err := bundle.Read(req.Dir)
	if err != nil {
		return res, err
	}
	return res, c.locked(func(p *pod) error {
		if p.state.PauseExit != nil {
			return errors.New("the sandbox does not run")
		}
		if have := p.containers[req.ID]; have != nil {
			res = have.result
			return nil
		}
		script := p.launcher.script(req.ID, b.Spec.Process.Args)
		if script.StartError != "" {
			return &shim.StartError{Message: "OCI runtime create failed: unable to start container process: error during container init: " + script.StartError}
		}
		k := &container{req: req, log: &logFile{path: req.LogPath}, execs: map[string]*process{}}
		if err := k.log.reopen(); err != nil {
			return err
		}
		k.result = shim.RunResult{PID: p.launcher.pid(), StartedAt: p.launcher.clock().Now()}
		k.proc = newProcess(script, p.launcher.clock())
		p.containers[req.ID] = k
		k.start(p)
		res = k.result
		return nil
	})
}

func (l *Launcher) script(container string, args []string) Script {
	if l.Script != nil {
		if s, ok := l.Script(container, args); ok {
			return s
		}
	}
	return read(args)
}

// start runs the script with its streams.
func (k *container) start(p *pod) {
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	inR, inW := io.Pipe()
	k.stdin = inW
	if !k.req.Stdin {
		_ = inW.Close()
	}
	var pumps sync.WaitGroup
	for i, r := range []io.Reader{outR, errR} {
		pumps.Add(1)
		go func() {
			defer pumps.Done()
			k.log.pump(r, [...]string{"stdout", "stderr"}[i], p.launcher.clock(), func(b []byte) { k.tee(i, b) })
		}()
	}
	var in io.Reader = inR
	if k.req.TTY {
		in = terminal{inR, outW}
	}
	k.proc.run(in, crlf(outW, k.req.TTY), errW, func(exit shim.Exit) {
		_, _, _ = outW.Close(), errW.Close(), inR.Close()
		pumps.Wait()
		k.finish(p, exit)
	})
}

// finish keeps the exit and tells of it.
func (k *container) finish(p *pod, exit shim.Exit) {
	_ = writeExit(k.req.ExitFile, exit)
	k.log.close()
	k.mu.Lock()
	k.exit = &exit
	for _, files := range k.attached {
		for _, f := range files {
			_ = f.Close()
		}
	}
	k.attached = [2][]*os.File{}
	k.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		if exit.Memory != nil {
			p.sendLocked(shim.Event{Container: k.req.ID, OOM: exit.Memory})
		}
		p.sendLocked(shim.Event{Container: k.req.ID, Exit: exit})
	}
}

// tee copies output to who is attached and lets go of who has left.
func (k *container) tee(stream int, b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written[stream] += int64(len(b))
	var stay []*os.File
	for _, f := range k.attached[stream] {
		if _, err := f.Write(b); err != nil {
			_ = f.Close()
			continue
		}
		stay = append(stay, f)
	}
	k.attached[stream] = stay
}

func (k *container) running() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.exit == nil
}

func (c *conn) Signal(_ context.Context, req shim.SignalRequest) error {
	k, err := c.find(req.Container)
	if err != nil {
		return err
	}
	proc := k.proc
	if req.Exec != "" {
		k.mu.Lock()
		proc = k.execs[req.Exec]
		k.mu.Unlock()
	}
	if proc != nil {
		proc.signal(unix.Signal(req.Signal))
	}
	return nil
}

func (c *conn) ReopenLog(_ context.Context, id string) error {
	k, err := c.find(id)
	if err != nil {
		return err
	}
	return k.log.reopen()
}

// LimitLogs does nothing: scripts write little.
func (c *conn) LimitLogs(context.Context, shim.LogLimits) error { return nil }

func (c *conn) Forget(_ context.Context, id string) error {
	return c.locked(func(p *pod) error {
		k := p.containers[id]
		if k == nil {
			return nil
		}
		if k.running() {
			return fmt.Errorf("container %s runs", id)
		}
		delete(p.containers, id)
		return nil
	})
}

func (c *conn) Stop(context.Context) error {
	c.pod.mu.Lock()
	if c.pod.gone {
		c.pod.mu.Unlock()
		return nil
	}
	list := make([]*container, 0, len(c.pod.containers))
	for _, k := range c.pod.containers {
		list = append(list, k)
	}
	c.pod.mu.Unlock()
	for _, k := range list {
		k.proc.signal(unix.SIGKILL)
	}
	for _, k := range list {
		<-k.proc.done
	}
	c.pod.end()
	return nil
}

func (c *conn) Events() <-chan shim.Event { return c.events }

func (c *conn) Close() error {
	return c.lockedAlways(func(p *pod) {
		if p.conns[c] {
			delete(p.conns, c)
			close(c.events)
		}
	})
}

func (c *conn) lockedAlways(do func(p *pod)) error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	do(c.pod)
	return nil
}
