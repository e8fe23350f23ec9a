package worker

import (
	"context"

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
		var res pull.Result
		_ = w.step("image", c.Name, func() error {
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
