package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// tearDown gives back what a Pod held of which nothing runs any more: its network, its volumes and, with
// clear, all that the runtime remembers of it and its logs; its cgroup last. It runs all of it whatever fails,
// and is safe to be run again.
func (w *worker) tearDown(clear bool) {
	p := w.pod
	var sandboxes []string
	for i := range w.sandboxes {
		sandboxes = append(sandboxes, w.sandboxes[i].ID)
	}
	containers := map[string]string{} // name by ID
	for i := range w.containers {
		containers[w.containers[i].ID] = w.containers[i].Name
	}
	w.work.TearDown = pod.Step{Busy: true}
	w.begin("tear-down", sandboxTimeout, func(ctx context.Context) func() {
		var volumes, forget error
		var wait sync.WaitGroup
		wait.Go(func() {
			volumes = w.step("stop-volumes", "", func() error {
				if clear {
					return w.m.cfg.Volumes.Remove(ctx, w.uid)
				}
				return w.m.cfg.Volumes.TearDown(ctx, w.uid)
			})
		})
		wait.Go(func() {
			forget = w.step("forget", "", func() error { return w.forget(ctx, p, sandboxes, containers, clear) })
		})
		wait.Wait()
		cgroup := w.step("stop-cgroup", "", func() error { return w.m.cfg.Cgroups.Remove(w.uid) })
		err := errors.Join(volumes, forget, cgroup)
		return func() { w.tornDown(clear, err) }
	})
}

// forget ends the network of all sandboxes of the Pod and, with clear, makes the runtime forget them and their
// containers, and removes the logs.
func (w *worker) forget(ctx context.Context, p *v1.Pod, sandboxes []string, containers map[string]string, clear bool) error {
	var errs []error
	rt := w.m.cfg.Runtime
	for _, id := range sandboxes {
		errs = append(errs, ignoreNotFound(rt.StopPodSandbox(ctx, id)))
	}
	if !clear {
		return errors.Join(errs...)
	}
	for id, name := range containers {
		w.unlinkLog(p, name, id)
		errs = append(errs, ignoreNotFound(rt.RemoveContainer(ctx, id)))
	}
	for _, id := range sandboxes {
		errs = append(errs, ignoreNotFound(rt.RemovePodSandbox(ctx, id)))
	}
	if err := os.RemoveAll(w.m.cfg.Builder.PodLogDir(p)); err != nil {
		errs = append(errs, fmt.Errorf("remove the logs of pod %s: %w", p.Name, err))
	}
	return errors.Join(errs...)
}

// tornDown takes in how the tear-down ended.
func (w *worker) tornDown(clear bool, err error) {
	if err != nil {
		w.work.TearDown = w.failed("FailedKillPod", err.Error(), retryStop)
		w.event(nil, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
		w.log().Error(err, "Cannot give back all that the pod held")
		return
	}
	w.work.TearDown = pod.Step{Done: true}
	if clear {
		w.work.Cleared = true
		w.sandboxes, w.containers = nil, nil
	}
}
