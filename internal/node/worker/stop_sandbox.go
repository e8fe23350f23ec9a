package worker

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// stopSandbox ends what is left of a sandbox: its processes and its network.
func (w *worker) stopSandbox(id string) {
	w.work.Sandboxes[id] = &pod.Step{Busy: true}
	w.begin("stop-sandbox/"+id, sandboxTimeout, func(ctx context.Context) func() {
		err := w.step("stop-sandbox", "", func() error {
			return ignoreNotFound(w.m.cfg.Runtime.StopPodSandbox(ctx, id))
		})
		return func() {
			w.refreshSandbox(id)
			if err == nil {
				delete(w.work.Sandboxes, id)
				return
			}
			step := w.failed("FailedKillPod", err.Error(), retryStop)
			w.work.Sandboxes[id] = &step
			w.event(nil, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
		}
	})
}
