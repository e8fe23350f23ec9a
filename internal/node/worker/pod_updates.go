package worker

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// setPodsLocked takes in all Pods of a source. The lock is held.
func (m *Manager) setPodsLocked(source string, pods []*v1.Pod) {
	keep := map[types.UID]bool{}
	for _, p := range pods {
		keep[p.UID] = true
	}
	for uid, w := range m.workers {
		if w.source == source && !keep[uid] {
			m.dropLocked(w)
		}
	}
	m.supersedeLocked(source, keep)
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b *v1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, p := range pods {
		m.updateLocked(source, p)
	}
}

// updateLocked takes in a Pod that is new or has changed. The lock is held.
func (m *Manager) updateLocked(source string, p *v1.Pod) {
	if source == SourceAPI {
		if podutil.IsMirror(p) {
			m.report.mirror(p)
			return
		}
		p = fromAPI(p)
	}
	if w := m.workers[p.UID]; w != nil {
		if w.source != source || w.dropped {
			// A static Pod that went and came back before its end.
			m.again[p.UID] = input{source, p}
			return
		}
		m.wantsLocked(w, p)
		return
	}
	if source != SourceAPI {
		name := fullName(p)
		if holder, taken := m.names[name]; taken && holder != p.UID {
			m.wait(name, input{source, p})
			return
		}
		m.names[name] = p.UID
	}
	m.takeLocked(source, p)
}

// supersedeLocked forgets the inputs of a source that wait for their turn and that it does not have any more: what
// waits is what the source had when it spoke last, and nothing that it had before.
func (m *Manager) supersedeLocked(source string, keep map[types.UID]bool) {
	gone := func(in input) bool { return in.source == source && !keep[in.pod.UID] }
	for name, line := range m.waiting {
		if line = slices.DeleteFunc(line, gone); len(line) > 0 {
			m.waiting[name] = line
		} else {
			delete(m.waiting, name)
		}
	}
	maps.DeleteFunc(m.again, func(_ types.UID, in input) bool { return gone(in) })
	for _, in := range m.unholdLocked(gone) {
		m.freeNameLocked(in.pod)
	}
}

// unholdLocked takes Pods out of those that wait for room, and returns them.
func (m *Manager) unholdLocked(chosen func(input) bool) (out []input) {
	var stay []input
	for _, in := range m.held {
		if chosen(in) {
			out = append(out, in)
		} else {
			stay = append(stay, in)
		}
	}
	m.held = stay
	return out
}

// freeNameLocked lets the next static Pod of the name start, if this one has the name.
func (m *Manager) freeNameLocked(p *v1.Pod) {
	name := fullName(p)
	if m.names[name] == p.UID {
		delete(m.names, name)
	}
	line := m.waiting[name]
	if len(line) == 0 || m.names[name] != "" {
		return
	}
	next := line[0]
	if m.waiting[name] = line[1:]; len(line) == 1 {
		delete(m.waiting, name)
	}
	m.updateLocked(next.source, next.pod)
}

// wait lines a static Pod up behind those of its name, in place of itself when it is there already.
func (m *Manager) wait(name string, in input) {
	line := slices.DeleteFunc(m.waiting[name], func(i input) bool { return i.pod.UID == in.pod.UID })
	m.waiting[name] = append(line, in)
}

// fromAPI is the Pod without what would make it pass for a static one.
func fromAPI(p *v1.Pod) *v1.Pod {
	if _, ok := p.Annotations[podutil.SourceAnnotation]; !ok {
		return p
	}
	clean := *p
	clean.Annotations = map[string]string{}
	for k, v := range p.Annotations {
		if k != podutil.SourceAnnotation {
			clean.Annotations[k] = v
		}
	}
	return &clean
}

// removeLocked takes in that a source has a Pod no more. The lock is held.
func (m *Manager) removeLocked(source string, p *v1.Pod) {
	if source == SourceAPI && podutil.IsMirror(p) {
		m.report.unmirror(p)
		return
	}
	name := fullName(p)
	if line := slices.DeleteFunc(m.waiting[name], func(i input) bool { return i.pod.UID == p.UID }); len(line) > 0 {
		m.waiting[name] = line
	} else {
		delete(m.waiting, name)
	}
	delete(m.again, p.UID)
	for _, in := range m.unholdLocked(func(in input) bool { return in.pod.UID == p.UID }) {
		m.freeNameLocked(in.pod)
	}
	if w := m.workers[p.UID]; w != nil && w.source == source {
		m.dropLocked(w)
	}
}

// dropLocked ends a Pod that its source has no more. The lock is held.
func (m *Manager) dropLocked(w *worker) {
	w.dropped = true
	delete(m.again, w.uid)
	w.post(func() { w.orders.Removed = true })
}

// startLocked makes the worker of a Pod, which the node may have refused. The lock is held.
func (m *Manager) startLocked(source string, p *v1.Pod, refused *pod.Verdict) *worker {
	had := m.found[p.UID]
	delete(m.found, p.UID)
	if m.begun != nil {
		m.begun[p.UID] = true
	}
	w := newWorker(m, source, p, had, m.grantOfLocked(p, had))
	w.orders.Reject = refused
	m.workers[p.UID] = w
	go w.run()
	return w
}

// ended takes in that a worker has nothing left to do: its Pod is gone. What waited for it starts.
func (m *Manager) ended(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, w.uid)
	if w.grant.kept {
		m.unkeepLocked(w.uid)
	}
	if m.cfg.OnEnd != nil {
		go m.cfg.OnEnd(w.pod) // without the lock, for it may ask for other Pods
	}
	if in, ok := m.again[w.uid]; ok {
		delete(m.again, w.uid)
		if name := fullName(w.pod); m.names[name] == w.uid {
			delete(m.names, name)
		}
		m.updateLocked(in.source, in.pod)
	}
	m.freeNameLocked(w.pod)
	m.admitLocked()
	m.suspect()
}
