package worker

import (
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// A mark is an empty file named after a container whose postStart handler has not come to its end. It is made
// before the container is started, so that a handler is run at least once though the daemon be killed at any
// moment.

// mark makes the mark of a container.
func (m *Manager) mark(id string) error {
	if m.cfg.Marks == "" {
		return nil
	}
	if err := os.MkdirAll(m.cfg.Marks, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.cfg.Marks, id), nil, 0o600)
}

// unmark removes the mark of a container. One that stays has the handler run once more, which it must bear.
func (m *Manager) unmark(id string) {
	if m.cfg.Marks != "" {
		_ = os.Remove(filepath.Join(m.cfg.Marks, id))
	}
}

// resumeHooks runs the postStart handlers again that the last daemon left under way.
func (w *worker) resumeHooks() {
	if w.m.cfg.Marks == "" {
		return
	}
	for i := range w.containers {
		c := &w.containers[i]
		if _, err := os.Stat(filepath.Join(w.m.cfg.Marks, c.ID)); err != nil {
			continue
		}
		spec := pod.Spec(w.pod, c.Name)
		if c.State != pod.Running || !hasPostStart(spec) || w.pod.DeletionTimestamp != nil {
			if c.State != pod.Created {
				w.m.unmark(c.ID)
			}
			continue
		}
		w.runPostStart(w.pod, spec, c.ID)
	}
}

func hasPostStart(c *v1.Container) bool {
	return c != nil && c.Lifecycle != nil && c.Lifecycle.PostStart != nil
}
