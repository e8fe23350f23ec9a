package worker

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/pod"
)

// retryStart is the wait before a step that failed in a way that another try may repair is tried again.
const retryStart = 10 * time.Second

// createSandbox makes the Pod's cgroup and, in it, its sandbox.
func (w *worker) createSandbox(a pod.CreateSandbox) {
	p := w.pod
	w.work.Sandbox = pod.Step{Busy: true}
	if a.Changed {
		w.event(nil, v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	w.begin("sandbox", sandboxTimeout, func(ctx context.Context) func() {
		err := w.step("cgroup", "", func() error {
			_, err := w.m.cfg.Cgroups.Ensure(p)
			return err
		})
		if err != nil {
			return func() {
				w.work.Sandbox = w.failed("FailedCreatePodContainer", err.Error(), retryStart)
				w.event(nil, v1.EventTypeWarning, "FailedCreatePodContainer", fmt.Sprintf("unable to ensure pod container exists: %v", err))
			}
		}
		var id string
		err = w.step("sandbox", "", func() (err error) {
			id, err = w.runSandbox(ctx, p, a.Attempt)
			return err
		})
		return func() {
			if err != nil {
				w.work.Sandbox = w.failed("FailedCreatePodSandBox", err.Error(), retryStart)
				if ctx.Err() == nil || ctx.Err() == context.DeadlineExceeded {
					w.event(nil, v1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err))
				}
				// What a try left behind is the runtime's to tell.
				w.findSandboxes()
				return
			}
			w.work.Sandbox = pod.Step{}
			held := pod.AllocationOf(p)
			w.cgroup = &held
			w.refreshSandbox(id)
		}
	})
}

func (w *worker) runSandbox(ctx context.Context, p *v1.Pod, attempt uint32) (string, error) {
	cfg, err := w.m.cfg.Builder.Sandbox(p, attempt)
	if err != nil {
		return "", err
	}
	handler, err := w.m.handler(ctx, p)
	if err != nil {
		return "", err
	}
	return w.m.cfg.Runtime.RunPodSandbox(ctx, cfg, handler)
}

// handler is the runtime handler of the Pod, "" for the default.
func (m *Manager) handler(ctx context.Context, p *v1.Pod) (string, error) {
	class := p.Spec.RuntimeClassName
	if class == nil || *class == "" {
		return "", nil
	}
	if m.cfg.RuntimeHandler == nil {
		return "", fmt.Errorf("RuntimeClass %q not found", *class)
	}
	return m.cfg.RuntimeHandler(ctx, *class)
}

// sandboxConfig is the configuration of the sandbox that a container is made in.
func (w *worker) sandboxConfig(p *v1.Pod, s *pod.Sandbox) (*runtimeapi.PodSandboxConfig, error) {
	return w.m.cfg.Builder.Sandbox(p, s.Attempt)
}
