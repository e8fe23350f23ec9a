package worker

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// beginKill begins the end of a container: it is told, and its preStop handler runs, within the grace period.
func (w *worker) beginKill(a pod.BeginKill) {
	p, c := w.pod, a.Container
	w.work.Kills[a.ID] = &pod.Kill{
		Since: w.m.cfg.Clock.Now(), Grace: a.Grace, Hook: a.Hook, Restart: a.Restart, Again: a.Again,
	}
	if c != nil {
		w.event(c, v1.EventTypeNormal, "Killing", a.Message)
	}
	w.cut("post-start/" + a.ID)
	if !a.Hook {
		return
	}
	ip := first(w.podIPs())
	w.begin("pre-stop/"+a.ID, 0, func(ctx context.Context) func() {
		err := w.step("pre-stop", c.Name, func() error {
			_, err := w.m.cfg.Hooks.Run(ctx, p, c, a.ID, ip, c.Lifecycle.PreStop)
			return err
		})
		return func() {
			if k := w.work.Kills[a.ID]; k != nil {
				k.Hook = false
			}
			if err != nil && ctx.Err() == nil {
				w.preStopFailed(p, c, err.Error())
			}
		}
	})
}

// preStopFailed records that the preStop handler of a container failed or was cut short by the end of the grace period,
// where the kubelet says the same. Why is logged only: it may be secret.
func (w *worker) preStopFailed(p *v1.Pod, c *v1.Container, why string) {
	if c == nil {
		return // the spec knows it no more
	}
	w.log().Info("Failed to run the preStop handler to its end", "containerName", c.Name, "why", why)
	w.eventOf(p, c, v1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
}
