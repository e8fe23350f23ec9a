package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/podutil"
)

// What is on the machine of a Pod that no source has and no worker ends belongs to nobody: an earlier daemon left it, or
// a call of the runtime took effect after its caller had given it up. Such a Pod gets a worker of its own, an orphan's,
// which ends and removes all of it as any worker does. As there is one worker a Pod, that cannot harm a Pod of the same
// UID that comes meanwhile: it waits for the orphan's end.

const (
	// orphan is the source of Pods that only the machine still knows.
	orphan = "runtime"
	// quietAfter is how long after the last doubt it is looked for what no Pod owns: long enough for a burst of Pods to
	// be looked at once, short enough for what is found to be gone within a second.
	quietAfter = 300 * time.Millisecond
)

// sweepLocked makes orphans, once, of what no source has: after every source has spoken. The lock is held.
func (m *Manager) sweepLocked() {
	if m.swept {
		return
	}
	for _, source := range m.cfg.Sources {
		if !m.spoken[source] {
			return
		}
	}
	m.swept = true
	for uid, f := range m.found {
		m.startOrphanLocked(uid, f)
	}
	m.admitLocked()
	waits := map[types.UID]bool{}
	for _, in := range m.held {
		waits[in.pod.UID] = true
	}
	for uid := range m.grants {
		if !waits[uid] {
			m.unkeepLocked(uid)
			delete(m.grants, uid)
		}
	}
	m.resizesLocked()
	m.suspect()
}

// startOrphanLocked makes the worker that ends what is left of a Pod.
func (m *Manager) startOrphanLocked(uid types.UID, f *found) {
	m.found[uid] = f
	w := m.startLocked(orphan, orphanPod(uid, f), nil)
	w.post(func() { w.orders.Removed = true })
}

// orphanPod stands for a Pod of which only the machine still knows, with the resources and ports of the containers that
// may run. There is nobody to ask for a grace period and nobody to tell.
func orphanPod(uid types.UID, f *found) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			UID: uid, Namespace: f.namespace, Name: f.name,
			Annotations: map[string]string{podutil.SourceAnnotation: orphan},
		},
		Spec: v1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](1)},
	}
	for _, c := range f.containers {
		if c.over() {
			continue
		}
		spec := v1.Container{Name: c.name, Ports: c.ports}
		if c.allocation != nil {
			spec.Resources, p.Spec.Resources = c.allocation.Containers[c.name], c.allocation.Pod
		}
		p.Spec.Containers = append(p.Spec.Containers, spec)
	}
	return p
}

// suspect has the machine looked over soon for what no Pod owns. It never waits.
func (m *Manager) suspect() {
	select {
	case m.doubt <- struct{}{}:
	default:
	}
}

// collect looks for what no Pod owns whenever there was a doubt, until ctx ends.
func (m *Manager) collect(ctx context.Context) {
	for first := true; ; first = false {
		select {
		case <-m.doubt:
		case <-ctx.Done():
			return
		}
		if !first {
			m.pause(ctx, quietAfter)
		}
		select {
		case <-m.doubt:
		default:
		}
		if ctx.Err() != nil {
			return
		}
		if err := m.collectOnce(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Failed to look for what is left of pods that are gone")
		}
		if first {
			if err := m.cfg.Builder.SweepLogLinks(); err != nil {
				klog.FromContext(ctx).Error(err, "Failed to remove the links to logs that are gone")
			}
		}
	}
}

// collectOnce finds the Pods of which something is on the machine that no worker looks after, and gives each an orphan's
// worker.
func (m *Manager) collectOnce(ctx context.Context) error {
	m.mu.Lock()
	if !m.swept {
		m.mu.Unlock()
		return nil
	}
	owned := map[types.UID]bool{}
	for uid := range m.workers {
		owned[uid] = true
	}
	m.begun = map[types.UID]bool{}
	m.mu.Unlock()

	marks := m.markList()
	all, err := m.onMachine(ctx)

	m.mu.Lock()
	defer m.mu.Unlock()
	begun := m.begun
	m.begun = nil
	if err != nil {
		return err
	}
	m.dropMarks(marks, all)
	for uid, f := range all {
		if owned[uid] || begun[uid] || m.workers[uid] != nil {
			continue // it has a worker, or had one that may have ended since it was seen
		}
		klog.FromContext(ctx).Info("Found what is left of a pod that is gone; removing it", "podUID", uid,
			"pod", klog.KRef(f.namespace, f.name), "sandboxes", len(f.sandboxes), "containers", len(f.containers), "where", f.where)
		m.startOrphanLocked(uid, f)
	}
	return nil
}

// onMachine returns all Pods of which something is on the machine: in the runtime, or a cgroup, or a folder of volumes
// or logs.
func (m *Manager) onMachine(ctx context.Context) (map[types.UID]*found, error) {
	all := map[types.UID]*found{}
	at := func(uid types.UID, where string) *found {
		f := all[uid]
		if f == nil {
			f = &found{}
			all[uid] = f
		}
		f.where = append(f.where, where)
		return f
	}
	// The runtime is asked last: what a Pod has elsewhere is made first, and goes last.
	volumes, verr := m.cfg.Volumes.Pods()
	for _, uid := range volumes {
		at(uid, "volumes")
	}
	groups, gerr := m.cfg.Cgroups.Pods()
	for _, uid := range groups {
		at(uid, "cgroup")
	}
	logs, lerr := os.ReadDir(filepath.Dir(m.cfg.Builder.PodLogDir(&v1.Pod{})))
	if errors.Is(lerr, os.ErrNotExist) {
		lerr = nil
	}
	for _, e := range logs {
		// NAMESPACE_NAME_UID, none of which has the line.
		if parts := strings.Split(e.Name(), "_"); len(parts) == 3 {
			f := at(types.UID(parts[2]), "logs")
			f.namespace, f.name = parts[0], parts[1]
		}
	}
	if err := errors.Join(verr, gerr, lerr); err != nil {
		return nil, err
	}
	listed, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	for uid, f := range listed {
		f.where = append(at(types.UID(uid), "runtime").where, f.where...)
		all[types.UID(uid)] = f
	}
	return all, nil
}

// markList returns the IDs of the containers that have a mark.
func (m *Manager) markList() (ids []string) {
	if m.cfg.Marks == "" {
		return nil
	}
	entries, err := os.ReadDir(m.cfg.Marks)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// dropMarks removes the marks of containers that the runtime does not have: a mark is made after its container, so one
// that was there before the runtime was listed is of a container that is gone.
func (m *Manager) dropMarks(ids []string, all map[types.UID]*found) {
	known := map[string]bool{}
	for _, f := range all {
		for id := range f.containers {
			known[id] = true
		}
	}
	for _, id := range ids {
		if !known[id] {
			m.unmark(id)
		}
	}
}

// portsOf reads the ports of a container from what the runtime has of it.
func portsOf(labels, annotations map[string]string) []v1.ContainerPort {
	return container.NotesOf(labels, annotations).Ports
}
