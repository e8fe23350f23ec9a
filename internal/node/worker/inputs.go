package worker

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/node/pod"
)

// setPods takes in all Pods of a source. The lock is held.
func (m *Manager) setPods(source string, pods []*v1.Pod) {
	keep := map[types.UID]bool{}
	for _, p := range pods {
		keep[p.UID] = true
	}
	for uid, w := range m.workers {
		if w.source == source && !keep[uid] {
			m.drop(w)
		}
	}
	for uid, in := range m.held {
		if in.source == source && !keep[uid] {
			delete(m.held, uid)
		}
	}
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b *v1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, p := range pods {
		m.update(source, p)
	}
}

// update takes in a Pod that is new or has changed. The lock is held.
func (m *Manager) update(source string, p *v1.Pod) {
	if source == SourceAPI {
		if pod.Mirror(p) {
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
		m.wants(w, p)
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
	m.take(source, p)
}

// take takes in a Pod that has no worker yet: a new one is admitted first. The lock is held.
func (m *Manager) take(source string, p *v1.Pod) {
	ended := p.Status.Phase == v1.PodFailed || p.Status.Phase == v1.PodSucceeded
	if m.found[p.UID] != nil || p.DeletionTimestamp != nil || ended {
		m.start(source, p, nil)
		return
	}
	if in, held := m.held[p.UID]; held {
		in.pod = p
		m.held[p.UID] = in
		return
	}
	admitted := p
	if g, resized := m.grants[p.UID]; resized {
		admitted = g.Allocated.Apply(p)
	}
	why := m.refuses(admitted)
	if why == nil {
		if why = m.noRoom(admitted); why != nil && m.makeRoom(source, p) {
			return
		}
	}
	m.start(source, p, why)
}

// makeRoom ends others for a critical Pod that the node has too little for, and reports whether there will be
// enough: the Pod is taken in when they have ended. The lock is held.
func (m *Manager) makeRoom(source string, p *v1.Pod) bool {
	if m.cfg.Node == nil || m.cfg.Node() == nil {
		return false
	}
	victims := pod.MakeRoom(p, m.cfg.Node(), m.others())
	if len(victims) == 0 {
		return false
	}
	var ends []<-chan struct{}
	for _, v := range victims {
		m.workers[v.UID].eventOf(v, nil, v1.EventTypeWarning, pod.Preempted.Reason, pod.Preempted.Message)
		ends = append(ends, m.evict(v.UID, pod.Preempted, func(w *worker, quiet chan struct{}) {
			w.onQuiet = append(w.onQuiet, quiet)
		}))
	}
	m.held[p.UID] = input{source, p}
	go func(ctx context.Context) {
		for _, end := range ends {
			select {
			case <-end:
			case <-ctx.Done():
				return
			}
		}
		m.do(func() {
			if in, held := m.held[p.UID]; held {
				delete(m.held, p.UID)
				m.update(in.source, in.pod)
			}
		})
	}(m.ctx)
	return true
}

// wait lines a static Pod up behind those of its name, in place of itself when it is there already.
func (m *Manager) wait(name string, in input) {
	line := slices.DeleteFunc(m.waiting[name], func(i input) bool { return i.pod.UID == in.pod.UID })
	m.waiting[name] = append(line, in)
}

// fromAPI is the Pod without what would make it pass for a static one.
func fromAPI(p *v1.Pod) *v1.Pod {
	if _, ok := p.Annotations[pod.SourceAnnotation]; !ok {
		return p
	}
	clean := *p
	clean.Annotations = map[string]string{}
	for k, v := range p.Annotations {
		if k != pod.SourceAnnotation {
			clean.Annotations[k] = v
		}
	}
	return &clean
}

// remove takes in that a source has a Pod no more. The lock is held.
func (m *Manager) remove(source string, p *v1.Pod) {
	if source == SourceAPI && pod.Mirror(p) {
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
	delete(m.held, p.UID)
	if w := m.workers[p.UID]; w != nil && w.source == source {
		m.drop(w)
	}
}

// drop ends a Pod that its source has no more. The lock is held.
func (m *Manager) drop(w *worker) {
	w.dropped = true
	delete(m.again, w.uid)
	w.post(func() { w.orders.Removed = true })
}

// start makes the worker of a Pod, which the node may have refused. The lock is held.
func (m *Manager) start(source string, p *v1.Pod, refused *pod.Verdict) *worker {
	had := m.found[p.UID]
	delete(m.found, p.UID)
	w := newWorker(m, source, p, had, m.grantOf(p, had))
	w.orders.Reject = refused
	m.workers[p.UID] = w
	go w.run()
	return w
}

// refuses answers which check of the node's a Pod that is new to it does not pass, nil for none. The lock is held.
func (m *Manager) refuses(p *v1.Pod) *pod.Verdict {
	if len(m.cfg.Admit) == 0 {
		return nil
	}
	others := m.others()
	for _, check := range m.cfg.Admit {
		if v := check(p, others); v != nil {
			return v
		}
	}
	return nil
}

// noRoom answers why the Pod does not go on the node beside those that are there, nil when it does. The lock is held.
func (m *Manager) noRoom(p *v1.Pod) *pod.Verdict {
	if m.cfg.Node == nil {
		return nil
	}
	node := m.cfg.Node()
	if node == nil {
		return nil
	}
	return pod.Admit(p, node, m.others())
}

// others are the Pods that take room on the node. The lock is held.
func (m *Manager) others() []*v1.Pod { return m.othersOf(nil) }

// ended takes in that a worker has nothing left to do: its Pod is gone. What waited for it starts.
func (m *Manager) ended(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, w.uid)
	if w.grant.kept {
		m.unkeep(w.uid)
	}
	if m.cfg.OnEnd != nil {
		go m.cfg.OnEnd(w.pod) // beside the lock, for it may ask for other Pods
	}
	name := fullName(w.pod)
	if m.names[name] == w.uid {
		delete(m.names, name)
	}
	if in, ok := m.again[w.uid]; ok {
		delete(m.again, w.uid)
		m.update(in.source, in.pod)
	}
	if line := m.waiting[name]; len(line) > 0 && m.names[name] == "" {
		next := line[0]
		m.waiting[name] = line[1:]
		if len(line) == 1 {
			delete(m.waiting, name)
		}
		m.update(next.source, next.pod)
	}
}
