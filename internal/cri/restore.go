package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// What restore relies on:
//
//  1. A record is on disk before anything is made for its sandbox or container, and goes after all of it is gone.
//  2. A state is on disk once the making was finished, before anybody was told the ID. A record without a state, or one
//     that cannot be read, is half made: nobody waits for it, and it is removed with all it may have made.
//  3. No process outlives the machine. A record with another boot ID is of a sandbox that is not ready and of
//     containers that have ended, when and how only their exit file can say.
//  4. What runs is what the shims say. The state on disk may lag behind: a container that is Created there may run, one
//     that is Running there may have ended.
//  5. A shim writes a container's exit into its file before it tells anyone, and the file stays until the container is
//     removed.
//  6. A shim that cannot be reached by its socket is dead, and pause with it. Its containers may live; they are killed.
//  7. There is one runtime at a time on these folders, and nobody else writes there. What is in them without a record
//     is of a removal that was cut short.

// restore reads what existed and brings it in line with what runs.
func (r *Runtime) restore(ctx context.Context) error {
	records, err := r.loadSandboxes()
	if err != nil {
		return err
	}
	orphans, err := r.loadContainers(records)
	if err != nil {
		return err
	}
	for _, c := range orphans {
		if err := r.cleanContainer(ctx, c); err != nil {
			return fmt.Errorf("remove half-made container %s: %w", c.ID, err)
		}
	}
	list := make([]*sandbox, 0, len(records))
	for _, sb := range records {
		list = append(list, sb)
	}
	if err := r.each(list, func(sb *sandbox) error { return r.restoreSandbox(ctx, sb) }); err != nil {
		return err
	}
	return r.sweep(ctx)
}

// loaded reports whether a sandbox has a state; one without is half made.
func (sb *sandbox) loaded() bool { return sb.config != nil }

// loadSandboxes reads all records. Those that are half made have no configuration.
func (r *Runtime) loadSandboxes() (map[string]*sandbox, error) {
	out := map[string]*sandbox{}
	for _, id := range names(filepath.Dir(r.sandboxDir("x"))) {
		sb := &sandbox{}
		dir := r.sandboxDir(id)
		err := load(dir, recordFile, &sb.sandboxRecord)
		if err == nil {
			err = load(dir, stateFile, &sb.state)
		}
		config := &runtimeapi.PodSandboxConfig{}
		if err == nil && proto.Unmarshal(sb.sandboxRecord.Config, config) == nil {
			sb.config = config
		} else if err != nil && !half(err) {
			return nil, fmt.Errorf("read sandbox %s: %w", id, err)
		}
		sb.ID, sb.sandboxRecord.Config = id, nil
		if !sb.loaded() && sb.NetNS == "" {
			sb.NetNS = r.netNSFile(id) // it may have been made
		}
		out[id] = sb
	}
	return out, nil
}

// loadContainers reads all records, adds the whole ones to the store and returns the half-made ones and those whose
// sandbox is gone or half made.
func (r *Runtime) loadContainers(sandboxes map[string]*sandbox) ([]*container, error) {
	var orphans []*container
	for _, id := range names(filepath.Dir(r.containerDir("x"))) {
		c := &container{ended: newDone(), cleared: newDone(), config: &runtimeapi.ContainerConfig{}}
		dir := r.containerDir(id)
		err := load(dir, recordFile, &c.containerRecord)
		if err == nil {
			err = load(dir, stateFile, &c.state)
		}
		if err != nil && !half(err) {
			return nil, fmt.Errorf("read container %s: %w", id, err)
		}
		derr := proto.Unmarshal(c.containerRecord.Config, c.config)
		c.ID, c.containerRecord.Config = id, nil
		c.sandbox = sandboxes[c.SandboxID]
		if c.sandbox == nil || !c.sandbox.loaded() || err != nil || derr != nil {
			if c.sandbox == nil {
				c.sandbox = &sandbox{}
			}
			orphans = append(orphans, c)
			continue
		}
		if c.state.State == stateExited {
			close(c.ended)
			close(c.cleared)
		}
		r.store.addContainer(c)
	}
	return orphans, nil
}

// names are a folder's entries; none for no folder.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// half reports whether the error is of something half made.
func half(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errHalf) }

// restoreSandbox takes a sandbox over, or removes it when it is half made.
func (r *Runtime) restoreSandbox(ctx context.Context, sb *sandbox) error {
	if !sb.loaded() {
		if err := r.cleanSandbox(ctx, sb); err != nil {
			return fmt.Errorf("remove half-made sandbox %s: %w", sb.ID, err)
		}
		return nil
	}
	r.store.addSandbox(sb)
	if sb.BootID != r.bootID {
		return r.afterReboot(sb)
	}
	sh, err := r.launcher.Connect(ctx, r.shimDir(sb.ID))
	if errors.Is(err, shim.ErrGone) {
		return r.withoutShim(ctx, sb)
	}
	if err != nil {
		return fmt.Errorf("reach the shim of sandbox %s: %w", sb.ID, err)
	}
	st, err := sh.State(ctx)
	if errors.Is(err, shim.ErrGone) {
		_ = sh.Close()
		return r.withoutShim(ctx, sb)
	}
	if err != nil {
		return fmt.Errorf("ask the shim of sandbox %s: %w", sb.ID, err)
	}
	sb.mu.Lock()
	sb.shim = sh
	sb.mu.Unlock()
	if st.Sandbox.PauseExit != nil {
		if err := r.markNotReady(sb); err != nil {
			return err
		}
	}
	r.adopt(ctx, sb, st)
	r.watch(sb, sh)
	r.limitLogs(ctx, sb, sh)
	return nil
}

// limitLogs tells a running shim the limits that are in force now. A shim of an older version does not know them, and
// the node rotates its logs as it looks at them.
func (r *Runtime) limitLogs(ctx context.Context, sb *sandbox, sh shim.Shim) {
	if r.cfg.LogLimits.MaxSize == 0 {
		return
	}
	if err := sh.LimitLogs(ctx, r.cfg.LogLimits); err != nil {
		r.log.V(2).Info("The shim of a sandbox does not limit its logs itself", "sandbox", sb.ID, "err", err)
	}
}

// adopt brings the containers of a sandbox in line with what its shim says.
func (r *Runtime) adopt(ctx context.Context, sb *sandbox, st shim.State) {
	known := map[string]shim.ContainerState{}
	for _, cs := range st.Containers {
		known[cs.ID] = cs
	}
	for _, c := range r.store.containersOf(sb.ID) {
		cs, ok := known[c.ID]
		state := c.get().State
		switch {
		case ok && state == stateCreated:
			if err := r.running(c, cs.Result); err != nil {
				r.log.Error(err, "Could not note that a container runs", "container", c.ID)
			}
		case !ok && state == stateRunning:
			r.orphaned(ctx, c)
		case state == stateExited:
			r.clearEnded(c)
		}
		if ok && cs.Exit != nil {
			r.exited(c, *cs.Exit)
		}
	}
}

// clearEnded removes what may be left of the cgroup of a container whose end was noted.
func (r *Runtime) clearEnded(c *container) {
	r.background(func(ctx context.Context) {
		if err := r.machine.ClearCgroup(ctx, c.Cgroup); err != nil && ctx.Err() == nil {
			r.log.Error(err, "Could not clear the cgroup of an ended container", "container", c.ID)
		}
	})
}

// withoutShim ends what a shim that died while nobody looked has left.
func (r *Runtime) withoutShim(ctx context.Context, sb *sandbox) error {
	for _, c := range r.store.containersOf(sb.ID) {
		r.orphaned(ctx, c)
	}
	if err := r.machine.ClearCgroup(ctx, sb.Cgroup); err != nil {
		return fmt.Errorf("clear the cgroup of sandbox %s: %w", sb.ID, err)
	}
	return r.markNotReady(sb)
}

// rebootExitCode is that of a container whose end nobody saw.
const rebootExitCode = 255

// afterReboot notes that nothing of the sandbox runs any more.
func (r *Runtime) afterReboot(sb *sandbox) error {
	for _, c := range r.store.containersOf(sb.ID) {
		if c.get().State != stateRunning {
			continue
		}
		exit, err := loadExit(r.containerDir(c.ID))
		if err != nil {
			return err
		}
		if exit != nil {
			r.exited(c, *exit)
			continue
		}
		c.mu.Lock()
		c.state.State, c.state.PID, c.state.FinishedAt = stateExited, 0, r.clock.Now()
		c.state.ExitCode, c.state.Reason = rebootExitCode, reasonUnknown
		c.state.Message = "the machine was restarted"
		close(c.ended)
		close(c.cleared)
		err = r.saveContainerLocked(c)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return r.markNotReady(sb)
}

// sweep removes what has no record: a shim without one is stopped, a network namespace without one let go.
func (r *Runtime) sweep(ctx context.Context) error {
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	for _, id := range names(filepath.Dir(r.shimDir("x"))) {
		if _, err := r.store.sandbox(id); err == nil {
			continue
		}
		if sh, err := r.launcher.Connect(ctx, r.shimDir(id)); err == nil {
			keep(sh.Stop(ctx))
			_ = sh.Close()
		}
		keep(os.RemoveAll(r.shimDir(id)))
	}
	for _, id := range names(filepath.Dir(r.netNSFile("x"))) {
		if _, err := r.store.sandbox(id); err != nil {
			keep(r.unpin(r.netNSFile(id)))
		}
	}
	for _, id := range names(filepath.Dir(r.bundleDir("x"))) {
		if _, err := r.store.container(id); err != nil {
			keep(os.RemoveAll(r.bundleDir(id)))
		}
	}
	return errors.Join(errs...)
}
