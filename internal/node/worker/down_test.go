package worker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestHaltStopsAndGoesOnLater(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	if err := n.m.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"StopContainer c 30", "StopPodSandbox web"} {
		if !slices.Contains(n.runtime.callList(), call) {
			t.Errorf("no %s in %v", call, n.runtime.callList())
		}
	}
	if st := n.get("web").Status; st.Phase != v1.PodRunning {
		t.Errorf("the API was told: %s", st.Phase)
	}
	if n.volumes.torn["uid-web"] == 0 {
		t.Error("the volumes are still there")
	}
	n.restart()
	n.becomes("web", "running again", func(st *v1.PodStatus) bool {
		return first0(st).RestartCount == 1 && isTrue(st, v1.PodReady) && first0(st).LastTerminationState.Terminated.ExitCode == 143
	})
}

func TestHaltGivesUp(t *testing.T) {
	n := newNode(t)
	n.runtime.deaf["c"] = true
	n.create(newPod())
	n.running("web")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.m.Halt(ctx); err == nil {
		t.Error("a pod that does not stop was said to have stopped")
	}
}

func TestPostStartHookOutlivesTheAgent(t *testing.T) {
	marks := t.TempDir()
	n := newNode(t, func(c *Config) { c.Marks = marks })
	n.hooks.run = func(ctx context.Context, _ *v1.Container, _ *v1.LifecycleHandler) error {
		<-ctx.Done()
		return ctx.Err()
	}
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}}
	}))
	ran := func(times int) {
		t.Helper()
		n.eventually(func() string {
			if len(n.hooks.list()) == times {
				return ""
			}
			return "the hook did not run"
		})
	}
	ran(1)
	n.stop()
	if left, _ := filepath.Glob(filepath.Join(marks, "*")); len(left) != 1 {
		t.Errorf("marks: %v", left)
	}
	n.hooks.mu.Lock()
	n.hooks.run = nil
	n.hooks.mu.Unlock()
	n.up()
	n.running("web")
	ran(2)
	if n.runtime.count("StartContainer c") != 1 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	n.restart()
	n.running("web")
	ran(2)
	if left, _ := os.ReadDir(marks); len(left) != 0 {
		t.Errorf("marks: %v", left)
	}
}

// A postStart handler that the Pod's deletion cuts short has failed, and that is told, as a kubelet does.
func TestPostStartHookCutByTheDeletion(t *testing.T) {
	n := newNode(t)
	n.hooks.run = func(ctx context.Context, _ *v1.Container, _ *v1.LifecycleHandler) error {
		<-ctx.Done()
		return ctx.Err()
	}
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}}
	}))
	n.eventually(func() string {
		if len(n.hooks.list()) == 1 {
			return ""
		}
		return "the hook did not run"
	})
	n.delete("web", 10)
	n.gone("web")
	n.saw("Warning FailedPostStartHook spec.containers{c}: PostStartHook failed")
	if got := n.runtime.count("StartContainer c"); got != 1 {
		t.Errorf("it was started %d times", got)
	}
}
