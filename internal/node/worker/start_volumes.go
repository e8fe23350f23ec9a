package worker

import (
	"context"
	"errors"
	"time"

	v1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"podium.dev/podium/internal/node/pod"
)

// Volumes that cannot be made are tried again after half a second, and after twice as long each time.
const (
	firstVolumeRetry = 500 * time.Millisecond
	maxVolumeRetry   = 2*time.Minute + 2*time.Second
)

// setUpVolumes makes the Pod's volumes.
func (w *worker) setUpVolumes() {
	p := w.pod
	last := w.work.Volumes
	w.work.Volumes = pod.Step{Busy: true}
	w.begin("volumes", 0, func(ctx context.Context) func() {
		err := w.step("volumes", "", func() error { return w.m.cfg.Volumes.SetUp(ctx, p) })
		return func() {
			if err == nil {
				w.work.Volumes = pod.Step{Done: true}
				return
			}
			wait := firstVolumeRetry
			if last.Reason != "" {
				wait = min(2*last.Retry.Sub(last.Failed), maxVolumeRetry)
			}
			w.work.Volumes = w.failed("FailedMount", err.Error(), wait)
			if ctx.Err() == nil {
				w.failedMounts(err)
			}
		}
	})
}

// failedMounts tells of volumes that could not be made, one event each.
func (w *worker) failedMounts(err error) {
	errs := []error{err}
	var several utilerrors.Aggregate
	if errors.As(err, &several) {
		errs = several.Errors()
	}
	for _, err := range errs {
		w.event(nil, v1.EventTypeWarning, "FailedMount", err.Error())
	}
}
