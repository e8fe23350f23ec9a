// Package hook runs the postStart and preStop handlers of containers.
package hook

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"
)

// Runner runs lifecycle handlers.
type Runner struct {
	// Runtime runs exec handlers.
	Runtime internalapi.RuntimeService
	// Recorder is told when an HTTPS hook was answered in plain HTTP.
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.Clock
}

// Run runs one handler to its end or that of ctx. The message is for the event of a failed hook.
func (r *Runner) Run(ctx context.Context, pod *v1.Pod, container *v1.Container, containerID, podIP string, h *v1.LifecycleHandler) (string, error) {
	return "", errors.New("hook runner: not built yet")
}
