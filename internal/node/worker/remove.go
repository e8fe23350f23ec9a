package worker

import (
	"context"
	"slices"

	"podium.dev/podium/internal/node/pod"
)

// removeContainer has the runtime forget a container that has ended.
func (w *worker) removeContainer(a pod.RemoveContainer) {
	p := w.pod
	w.work.Removals[a.ID] = &pod.Step{Busy: true}
	attempt := int32(-1)
	if c := w.container(a.ID); c != nil {
		attempt = c.Attempt
	}
	w.begin("remove/"+a.ID, callTimeout, func(ctx context.Context) func() {
		err := w.step("remove", a.Name, func() error {
			if !a.KeepLogs {
				w.unlinkLog(p, a.Name, a.ID)
				w.m.removeLogs(p, a.Name, attempt)
			}
			return ignoreNotFound(w.m.cfg.Runtime.RemoveContainer(ctx, a.ID))
		})
		return func() {
			if err != nil {
				step := w.failed("FailedRemove", err.Error(), retryStart)
				w.work.Removals[a.ID] = &step
				return
			}
			w.dropContainer(a.ID)
		}
	})
}

// removeSandbox has the runtime forget a sandbox that was replaced.
func (w *worker) removeSandbox(id string) {
	w.work.Sandboxes[id] = &pod.Step{Busy: true}
	w.begin("remove-sandbox/"+id, sandboxTimeout, func(ctx context.Context) func() {
		err := w.step("remove-sandbox", "", func() error {
			if err := ignoreNotFound(w.m.cfg.Runtime.StopPodSandbox(ctx, id)); err != nil {
				return err
			}
			return ignoreNotFound(w.m.cfg.Runtime.RemovePodSandbox(ctx, id))
		})
		return func() {
			if err != nil {
				step := w.failed("FailedRemove", err.Error(), retryStart)
				w.work.Sandboxes[id] = &step
				return
			}
			w.dropSandbox(id)
		}
	})
}

// dropContainer takes in that the runtime knows a container no more.
func (w *worker) dropContainer(id string) {
	w.containers = slices.DeleteFunc(slices.Clone(w.containers), func(c pod.Container) bool { return c.ID == id })
	delete(w.work.Kills, id)
	delete(w.work.Hooks, id)
	delete(w.work.Removals, id)
	delete(w.work.Warned, id)
}

// dropSandbox takes in that the runtime knows a sandbox no more.
func (w *worker) dropSandbox(id string) {
	w.sandboxes = slices.DeleteFunc(slices.Clone(w.sandboxes), func(s pod.Sandbox) bool { return s.ID == id })
	delete(w.work.Sandboxes, id)
}
