package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/pull"
)

// pullImage gets the image of a container.
func (w *worker) pullImage(c *v1.Container) {
	p := w.pod
	w.work.Pulls[c.Name] = &pod.Pull{Step: pod.Step{Busy: true}, Image: c.Image}
	req := pull.Request{Pod: p, For: reference(p, c), Image: c.Image, Policy: c.ImagePullPolicy}
	w.begin("image/"+c.Name, 0, func(ctx context.Context) func() {
		defer w.watchPull(ctx, c)()
		var res pull.Result
		_ = w.step("image", c.Name, func() error {
			var err error
			if req.Handler, err = w.m.handler(ctx, p); err != nil {
				res = pull.Result{Reason: pull.ErrPull, Message: err.Error(), Retry: w.m.cfg.Clock.Now().Add(retryStart)}
				return err
			}
			res = w.m.cfg.Images.Ensure(ctx, req)
			if res.Reason != "" {
				return stepError(res.Reason)
			}
			return nil
		})
		return func() {
			got := &pod.Pull{Image: c.Image, Ref: res.Ref}
			if res.Reason == "" {
				got.Done = true
			} else {
				got.Step = pod.Step{Reason: res.Reason, Message: res.Message, Failed: w.m.cfg.Clock.Now(), Retry: res.Retry}
			}
			w.work.Pulls[c.Name] = got
		}
	})
}

// showProgress is how often the status says how a pull fares.
const showProgress = 2 * time.Second

// watchPull has the status say how a pull fares, until what it answers with is called.
func (w *worker) watchPull(ctx context.Context, c *v1.Container) (end func()) {
	progress := w.m.cfg.PullProgress
	if progress == nil {
		return func() {}
	}
	ctx, end = context.WithCancel(ctx)
	ticker := w.m.cfg.Clock.NewTicker(showProgress)
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C():
			case <-ctx.Done():
				return
			}
			words := progress(c.Image)
			w.post(func() {
				if p := w.work.Pulls[c.Name]; p != nil && p.Busy {
					p.Progress = words
				}
			})
		}
	}()
	return end
}
