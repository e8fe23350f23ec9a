package worker

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// Active returns the Pods that may have something running, each with its status as the node sees it and the
// resources that it is allocated.
func (m *Manager) Active() []*v1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	var pods []*v1.Pod
	for _, w := range m.workers {
		if !w.takesRoomLocked() {
			continue
		}
		if p := w.view(); p != nil {
			pods = append(pods, p)
		}
	}
	return pods
}

// ForgetEnded has the runtime forget the containers of Pods that have ended and are still in the API, whose logs
// are lost with them: the disk is full. It answers when that is done.
func (m *Manager) ForgetEnded(ctx context.Context) error {
	ended := func(w *worker) bool { return w.source != orphan && w.shared.Load().over }
	return m.orderEnd(ctx, ended, func(o *pod.Orders) { o.Forget = true })
}
