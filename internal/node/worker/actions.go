package worker

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/pod"
)

// carry carries out one action: what takes time is begun, and its end will be posted. It reports whether the
// action was through at once and may have made more possible.
func (w *worker) carry(a pod.Action) (again bool) {
	if log := w.log().V(4); log.Enabled() {
		log.Info("Acting", "action", fmt.Sprintf("%T", a))
	}
	switch a := a.(type) {
	case pod.SetUpVolumes:
		w.setUpVolumes()
	case pod.PullImage:
		w.pullImage(a.Container)
	case pod.PullVolume:
		w.pullVolume(a.Volume)
	case pod.CreateSandbox:
		w.createSandbox(a)
	case pod.ResizePod:
		w.resizePod(a)
	case pod.StartContainer:
		w.startContainer(a)
	case pod.BeginKill:
		w.beginKill(a)
		return true
	case pod.StopContainer:
		w.stopContainer(a)
	case pod.StopSandbox:
		w.stopSandbox(a.ID)
	case pod.RemoveContainer:
		w.removeContainer(a)
	case pod.RemoveSandbox:
		w.removeSandbox(a.ID)
	case pod.WarnBackOff:
		w.work.Warned[a.ID] = true
		w.event(a.Container, v1.EventTypeWarning, "BackOff",
			"Back-off restarting failed container "+a.Container.Name+" in pod "+pod.Describe(w.pod))
	case pod.TearDown:
		w.tearDown(a.Clear)
	}
	return false
}

// Most times that one call of the runtime may take.
const (
	callTimeout    = 2 * time.Minute
	sandboxTimeout = 4 * time.Minute
)

// begin does work in a goroutine of its own. What work returns is done on the worker's goroutine after
// it. The key is how the work can be cut short before its end; timeout 0 is none.
func (w *worker) begin(key string, timeout time.Duration, work func(ctx context.Context) func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	if timeout > 0 {
		cancel()
		ctx, cancel = context.WithTimeout(w.ctx, timeout)
	}
	entry := &cancel
	w.cancels[key] = entry
	go func() {
		after := work(ctx)
		w.post(func() {
			after()
			cancel()
			if w.cancels[key] == entry {
				delete(w.cancels, key)
			}
		})
	}()
}

// cut ends the work of the key, if it is under way.
func (w *worker) cut(key string) {
	if cancel := w.cancels[key]; cancel != nil {
		(*cancel)()
		delete(w.cancels, key)
	}
}

// abandon cuts short whatever was begun to bring the Pod up, as it is to end; a container that is being
// started is not cut short, but ended after.
func (w *worker) abandon() {
	if w.work.Volumes.Busy {
		w.cut("volumes")
	}
	if w.work.Sandbox.Busy {
		w.cut("sandbox")
	}
	for name, p := range w.work.Pulls {
		if p.Busy {
			w.cut("image/" + name)
		}
	}
	for name, p := range w.work.VolumePulls {
		if p.Busy {
			w.cut("image-volume/" + name)
		}
	}
	for id, h := range w.work.Hooks {
		if h == pod.HookRuns {
			w.cut("post-start/" + id)
		}
	}
}

// failed is a step that failed now, to be tried again after a while.
func (w *worker) failed(reason, message string, after time.Duration) pod.Step {
	now := w.m.cfg.Clock.Now()
	return pod.Step{Reason: reason, Message: message, Failed: now, Retry: now.Add(after)}
}

func (w *worker) log() klog.Logger { return klog.FromContext(w.ctx) }
