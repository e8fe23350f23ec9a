package worker

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// retryStop is the wait before something that would not end is told again to end.
const retryStop = time.Second

// stopContainer has the runtime end a container. Called again with less grace it takes the place of the call
// before.
func (w *worker) stopContainer(a pod.StopContainer) {
	k := w.work.Kills[a.ID]
	if run := w.container(a.ID); k.Hook && run != nil {
		w.preStopFailed(w.pod, pod.Spec(w.pod, run.Name), "it outlasts the grace period")
	}
	w.cut("pre-stop/" + a.ID)
	w.cut("stop/" + a.ID)
	k.Hook = false
	k.Stop = pod.Step{Busy: true}
	k.Until = w.m.cfg.Clock.Now().Add(time.Duration(a.Grace) * time.Second)
	name := a.ID
	if c := w.container(a.ID); c != nil {
		name = c.Name
	}
	until := k.Until
	w.begin("stop/"+a.ID, time.Duration(a.Grace)*time.Second+callTimeout, func(ctx context.Context) func() {
		err := w.step("stop", name, func() error {
			return ignoreNotFound(w.m.cfg.Runtime.StopContainer(ctx, a.ID, a.Grace))
		})
		return func() {
			if c := w.container(a.ID); c != nil {
				w.refresh(a.ID, c.SandboxID)
			}
			k := w.work.Kills[a.ID]
			if k == nil || !k.Until.Equal(until) {
				return // another call took the place of this one
			}
			if err == nil {
				k.Stop = pod.Step{Done: true}
				return
			}
			k.Stop = w.failed("FailedKillPod", err.Error(), retryStop)
			w.event(nil, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
		}
	})
}
