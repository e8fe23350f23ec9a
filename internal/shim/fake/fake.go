// Package fake is a runtime by script: a shim.Launcher whose containers are goroutines and whose programs are a few
// words. With it the container runtime, and the node agent above it, are tested through every turn of a Pod's life
// without root, without a container and, with a fake clock, without waiting.
//
// A container's first argument is "fake" and the others say what it does:
//
//	fake output=hello errors=oops run_for=2s exit_code=3 kill_after=5s oom start_error=no\ such\ file echo ignore_term
//
// A program that is not "fake" runs for ever, as most containers do, but "true" and "false", which end at once.
package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"k8s.io/utils/clock"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/util/atomicfile"
)

// Launcher starts scripted shims, which live in this process. It outlives the runtimes that use it, as real shims do,
// so a test closes one runtime and opens another with the same Launcher.
type Launcher struct {
	// Clock moves the containers' time. Nil takes the real one.
	Clock clock.WithTicker
	// LaunchError, when set, decides whether a sandbox can be started.
	LaunchError func(shim.SandboxSpec) error
	// Script, when set, says what a container or exec does, given its arguments; ok is false to have them read as usual.
	Script func(container string, args []string) (s Script, ok bool)

	pids atomic.Int64
	mu   sync.Mutex
	pods map[string]*pod // by folder
}

// Launch starts a scripted shim.
func (l *Launcher) Launch(_ context.Context, spec shim.SandboxSpec) (shim.Shim, shim.SandboxState, error) {
	if l.LaunchError != nil {
		if err := l.LaunchError(spec); err != nil {
			return nil, shim.SandboxState{}, err
		}
	}
	if spec.NetNSFile != "" { // the runtime looks for it
		if err := os.MkdirAll(filepath.Dir(spec.NetNSFile), 0o700); err != nil {
			return nil, shim.SandboxState{}, err
		}
		if err := os.WriteFile(spec.NetNSFile, nil, 0o600); err != nil {
			return nil, shim.SandboxState{}, err
		}
	}
	p := &pod{launcher: l, spec: spec, containers: map[string]*container{}, conns: map[*conn]bool{}}
	p.state = shim.SandboxState{ShimPID: l.pid(), PausePID: l.pid(), StartedAt: l.clock().Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pods == nil {
		l.pods = map[string]*pod{}
	}
	l.pods[spec.Dir] = p
	return p.connect(), p.state, nil
}

// Connect reaches a shim that runs.
func (l *Launcher) Connect(_ context.Context, dir string) (shim.Shim, error) {
	p := l.Pod(dir)
	if p == nil {
		return nil, fmt.Errorf("%s: %w", dir, shim.ErrGone)
	}
	return p.connect(), nil
}

// Pod returns the shim of a folder, or nil.
func (l *Launcher) Pod(dir string) *pod { //nolint:revive // tests only call its methods
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[dir]
}

// Sandbox returns the shim of a sandbox by its ID, or nil.
func (l *Launcher) Sandbox(id string) *pod { //nolint:revive // tests only call its methods
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pods {
		if p.spec.ID == id {
			return p
		}
	}
	return nil
}

// Running counts the shims that run.
func (l *Launcher) Running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pods)
}

func (l *Launcher) drop(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, dir)
}

func (l *Launcher) clock() clock.WithTicker {
	if l.Clock == nil {
		return clock.RealClock{}
	}
	return l.Clock
}

// firstPID is above those that a kernel gives by default, so that no mistake signals a real process.
const firstPID = 1 << 22

func (l *Launcher) pid() int { return int(firstPID + l.pids.Add(1)) }

// pod is one scripted shim.
type pod struct {
	launcher *Launcher
	spec     shim.SandboxSpec

	mu         sync.Mutex
	state      shim.SandboxState
	containers map[string]*container
	conns      map[*conn]bool
	gone       bool
}

// connect makes one more connection.
func (p *pod) connect() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &conn{pod: p, events: make(chan shim.Event, 1024)}
	p.conns[c] = true
	return c
}

// sendLocked tells all that are connected; p.mu is held.
func (p *pod) sendLocked(e shim.Event) {
	for c := range p.conns {
		c.events <- e
	}
}

// Kill is SIGKILL for the shim: pause goes with it, and here so do the containers, but nobody keeps their exits.
func (p *pod) Kill() { p.end() }

// KillPause ends the pause process.
func (p *pod) KillPause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.state.PauseExit != nil {
		return
	}
	exit := shim.Exit{Code: 137, Signal: 9, At: p.launcher.clock().Now()}
	p.state.PauseExit = &exit
	p.sendLocked(shim.Event{Exit: exit})
}

// KillContainer is SIGKILL from somewhere for a container.
func (p *pod) KillContainer(id string) {
	p.mu.Lock()
	c := p.containers[id]
	p.mu.Unlock()
	if c != nil {
		c.proc.signal(9)
	}
}

// end closes all connections and stops all scripts.
func (p *pod) end() {
	p.launcher.drop(p.spec.Dir)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return
	}
	p.gone = true
	for _, c := range p.containers {
		c.proc.abandon()
	}
	for c := range p.conns {
		close(c.events)
	}
	p.conns = nil
}

// writeExit keeps an exit as a real shim does.
func writeExit(file string, exit shim.Exit) error {
	data, err := json.Marshal(exit)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, data, 0o600, atomicfile.Crash)
}

// number is a script's value as a number.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
