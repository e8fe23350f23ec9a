package worker

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// runPostStart runs the postStart handler of a container that was just started. Until it is through the
// container does not count as running; when it fails the container is killed.
func (w *worker) runPostStart(p *v1.Pod, c *v1.Container, id string) {
	w.work.Hooks[id] = pod.HookRuns
	ip := first(w.podIPs())
	w.begin("post-start/"+id, 0, func(ctx context.Context) func() {
		var words string
		err := w.step("post-start", c.Name, func() (err error) {
			words, err = w.m.cfg.Hooks.Run(ctx, p, c, id, ip, c.Lifecycle.PostStart)
			return err
		})
		return func() {
			if w.ctx.Err() != nil {
				return // the daemon ends, and the next one runs the handler again
			}
			w.m.unmark(id)
			if err == nil {
				delete(w.work.Hooks, id)
				return
			}
			w.log().Error(err, "The postStart handler failed", "containerName", c.Name)
			w.work.Hooks[id] = pod.HookFailed
			// What the handler said stays out of the event: it may be secret. As with a kubelet, one that the end of the
			// Pod has cut short has failed.
			w.eventOf(p, c, v1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
			if ctx.Err() != nil {
				return
			}
			w.work.Starts[c.Name] = &pod.Start{Step: w.failed(hookError, words, 0), Hash: pod.Hash(c)}
		}
	})
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
