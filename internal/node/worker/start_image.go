package worker

import (
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/pull"
)

// pullImage gets the image of a container.
func (w *worker) pullImage(c *v1.Container) {
	p := w.pod
	req := pull.Request{Pod: p, For: reference(p, c), Image: c.Image, Policy: c.ImagePullPolicy}
	w.pull(w.work.Pulls, c.Name, "image", req, func(pull.Result) {})
}

// pullVolume gets the image of a volume. As in Kubernetes, its events are the Pod's; a failure is told of each
// container that waits for it as well.
func (w *worker) pullVolume(v *v1.Volume) {
	p := w.pod
	req := pull.Request{Pod: p, For: reference(p, nil), Image: v.Image.Reference, Policy: v.Image.PullPolicy}
	w.pull(w.work.VolumePulls, v.Name, "image-volume", req, func(res pull.Result) {
		for _, c := range pod.Mounting(p, v.Name) {
			if !slices.ContainsFunc(w.containers, func(run pod.Container) bool { return run.Name == c.Name && run.State == pod.Running }) {
				w.eventOf(p, c, v1.EventTypeWarning, "Failed", "Error: "+res.Reason)
			}
		}
	})
}

// pull gets an image, and keeps in pulls how it fares; failed is called when it could not be had.
func (w *worker) pull(pulls map[string]*pod.Pull, name, step string, req pull.Request, failed func(pull.Result)) {
	pulls[name] = &pod.Pull{Step: pod.Step{Busy: true}, Image: req.Image}
	w.begin(step+"/"+name, 0, func(ctx context.Context) func() {
		defer w.watchPull(ctx, pulls, name, req.Image)()
		var res pull.Result
		_ = w.step(step, name, func() error {
			var err error
			if req.Handler, err = w.m.handler(ctx, req.Pod); err != nil {
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
			got := &pod.Pull{Image: req.Image, Ref: res.Ref}
			if res.Reason == "" {
				got.Done = true
			} else {
				got.Step = pod.Step{Reason: res.Reason, Message: res.Message, Failed: w.m.cfg.Clock.Now(), Retry: res.Retry}
				failed(res)
			}
			pulls[name] = got
		}
	})
}

// showProgress is how often the status says how a pull fares.
const showProgress = 2 * time.Second

// watchPull has the status say how a pull fares, until what it returns is called.
func (w *worker) watchPull(ctx context.Context, pulls map[string]*pod.Pull, name, image string) (end func()) {
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
			words := progress(image)
			w.post(func() {
				if p := pulls[name]; p != nil && p.Busy {
					p.Progress = words
				}
			})
		}
	}()
	return end
}
