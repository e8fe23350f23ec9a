package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// The reasons of a container's end.
const (
	reasonCompleted = "Completed"
	reasonError     = "Error"
	reasonOOM       = "OOMKilled"
	reasonUnknown   = "Unknown"
)

// killedExitCode is that of a process ended by SIGKILL, and of one whose end nobody saw because its shim was killed.
const killedExitCode = 137

// watch follows a shim's events until it is gone.
func (r *Runtime) watch(sb *sandbox, sh shim.Shim) {
	r.work.Add(1)
	go func() {
		defer r.work.Done()
		for e := range sh.Events() {
			r.heard(sb, e)
		}
		if r.ctx.Err() == nil {
			r.shimGone(sb, sh)
		}
	}()
}

// heard takes one event.
func (r *Runtime) heard(sb *sandbox, e shim.Event) {
	switch {
	case e.OOM != nil:
		if c, err := r.store.container(e.Container); err == nil {
			r.outOfMemory(c, *e.OOM)
		}
	case e.Exec != "":
		r.execs.ended(e)
	case e.Container == "":
		r.log.Info("The pause process of a sandbox has ended", "sandbox", sb.ID, "code", e.Exit.Code)
		if err := r.markNotReady(sb); err != nil {
			r.log.Error(err, "Failed to record the end of the sandbox", "sandbox", sb.ID)
		}
	default:
		if c, err := r.store.container(e.Container); err == nil {
			r.exited(c, e.Exit)
		}
	}
}

// exited notes a container's end, once, tells so and clears its cgroup.
func (r *Runtime) exited(c *container, exit shim.Exit) {
	c.mu.Lock()
	if c.state.State == stateCreated {
		c.earlyExit = &exit // its start is not noted yet
		c.mu.Unlock()
		return
	}
	if c.state.State != stateRunning {
		c.mu.Unlock()
		return
	}
	c.state.State, c.state.FinishedAt, c.state.ExitCode = stateExited, exit.At, exit.Code
	c.state.Reason, c.state.Message, c.state.PID = exitReason(exit), exitMessage(exit), 0
	close(c.ended)
	err := r.saveContainerLocked(c)
	c.mu.Unlock()
	if err != nil {
		r.log.Error(err, "Could not note a container's end", "container", c.ID)
	}
	r.emit(c.ID, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	r.layers.forget(c.ID)
	r.background(func(ctx context.Context) {
		defer close(c.cleared)
		if err := r.machine.ClearCgroup(ctx, c.Cgroup); err != nil && ctx.Err() == nil {
			r.log.Error(err, "Could not clear the cgroup of an ended container", "container", c.ID)
		}
	})
}

// exitReason is Kubernetes' word for an exit.
func exitReason(exit shim.Exit) string {
	switch {
	case exit.OOM:
		return reasonOOM
	case exit.Code == 0:
		return reasonCompleted
	default:
		return reasonError
	}
}

// background does it while the runtime is open.
func (r *Runtime) background(do func(ctx context.Context)) {
	r.work.Add(1)
	go func() {
		defer r.work.Done()
		do(r.ctx)
	}()
}

// shimGone ends what a dead shim has left: its containers have nobody to write their logs and keep their exits, so they
// are killed, and the sandbox is not ready. After a Stop there is nothing left to do.
func (r *Runtime) shimGone(sb *sandbox, sh shim.Shim) {
	_ = sh.Close()
	sb.mu.Lock()
	if sb.shim == sh {
		sb.shim = nil
	}
	halting := sb.halting
	sb.mu.Unlock()
	r.execs.endAll(sb.ID)
	for _, c := range r.store.containersOf(sb.ID) {
		r.orphaned(r.ctx, c)
	}
	if halting {
		return
	}
	r.log.Info("The shim of a sandbox is gone, its containers are killed", "sandbox", sb.ID)
	if err := r.machine.ClearCgroup(r.ctx, sb.Cgroup); err != nil {
		r.log.Error(err, "Could not clear a sandbox's cgroup", "sandbox", sb.ID)
	}
	if err := r.markNotReady(sb); err != nil {
		r.log.Error(err, "Could not note that a sandbox is not ready", "sandbox", sb.ID)
	}
}

// orphaned kills a container that has no shim any more, and notes the exit that the shim kept or, for none, that of a
// killed process.
func (r *Runtime) orphaned(ctx context.Context, c *container) {
	if c.get().State != stateRunning {
		return // a start under way hears of it itself
	}
	if err := r.machine.ClearCgroup(ctx, c.Cgroup); err != nil {
		r.log.Error(err, "Could not kill a container whose shim is gone", "container", c.ID)
	}
	exit, err := loadExit(r.containerDir(c.ID))
	if err != nil {
		r.log.Error(err, "Could not read a container's exit", "container", c.ID)
	}
	if exit == nil {
		exit = &shim.Exit{Code: killedExitCode, Signal: 9, At: r.clock.Now()}
	}
	r.exited(c, *exit)
}
