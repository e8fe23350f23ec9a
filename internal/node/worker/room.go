package worker

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// The scheduler gives the room of a Pod to others as soon as the API has the Pod no more or says that it has ended. The
// node has its processes, addresses and ports a little longer. A Pod that only lacks what such Pods are giving up waits
// for them, in line; one that would not fit without them either is rejected.

// takeLocked takes in a Pod that has no worker yet: a new one is admitted first.
func (m *Manager) takeLocked(source string, p *v1.Pod) {
	ended := podutil.Ended(p)
	if m.found[p.UID] != nil || p.DeletionTimestamp != nil || ended {
		m.unholdLocked(func(in input) bool { return in.pod.UID == p.UID })
		m.startLocked(source, p, nil)
		return
	}
	m.holdLocked(input{source, p})
	m.admitLocked()
}

// holdLocked puts a Pod in line, in place of an earlier state of itself. Critical Pods go before the others.
func (m *Manager) holdLocked(in input) {
	same := func(have input) bool { return have.pod.UID == in.pod.UID }
	if i := slices.IndexFunc(m.held, same); i >= 0 {
		m.held[i] = in
		return
	}
	at := len(m.held)
	if pod.Critical(in.pod) {
		if i := slices.IndexFunc(m.held, func(have input) bool { return !pod.Critical(have.pod) }); i >= 0 {
			at = i
		}
	}
	m.held = slices.Insert(m.held, at, in)
}

// admitLocked judges the Pods in line, in order.
func (m *Manager) admitLocked() {
	for again := len(m.held) > 0; again; {
		again = m.admitOnceLocked()
	}
}

// admitOnceLocked judges the Pods in line until others are ended for a critical one; it reports whether that happened,
// for the rest must then be judged by the room that those leave. Pods that wait on keep those behind them from what
// they wait for.
func (m *Manager) admitOnceLocked() (again bool) {
	line, now := m.held, m.roomLocked(everyWorker)
	m.held = nil
	var later *room // computed when it is asked for: mostly there is room now
	afterwards := func() room {
		if later == nil {
			r := m.roomLocked(stays)
			for _, in := range m.held {
				r.take(in.pod)
			}
			later = &r
		}
		return *later
	}
	for i, in := range line {
		p := in.pod
		if g, resized := m.grants[p.UID]; resized {
			p = g.Allocated.Apply(p)
		}
		waits, why := m.judgeLocked(in.source, p, now, afterwards)
		if why != nil && why.short && m.makeRoomLocked(p) {
			m.held = append(append(m.held, in), line[i+1:]...)
			return true
		}
		if waits {
			m.held = append(m.held, in)
		} else {
			m.startLocked(in.source, in.pod, why.verdict())
		}
		if why == nil {
			now.take(p)
			if later != nil {
				later.take(p)
			}
		}
	}
	return false
}

// judgeLocked reports whether a Pod waits on and, if not, why it is rejected. now is the room as it is, later as it
// will be when the Pods that are leaving have left.
func (m *Manager) judgeLocked(source string, p *v1.Pod, now room, later func() room) (waits bool, why *refusal) {
	if source == SourceAPI && !m.spoken[SourceAPI] {
		return true, nil // until it is known which Pods are on the node already
	}
	if v := m.refusesLocked(p); v != nil {
		return false, &refusal{Verdict: v}
	}
	if now.admit(p) == nil {
		return false, nil
	}
	if v := later().admit(p); v != nil {
		return false, &refusal{Verdict: v, short: true}
	}
	m.waitLocked(p)
	return true, nil
}

// refusal is why a Pod is not admitted; short is that others may make room for it.
type refusal struct {
	*pod.Verdict
	short bool
}

func (r *refusal) verdict() *pod.Verdict {
	if r == nil {
		return nil
	}
	return r.Verdict
}

// room is the node's room, nil when nothing is known of the node: Pods are then admitted unseen.
type room struct{ *pod.Room }

func (r room) admit(p *v1.Pod) *pod.Verdict {
	if r.Room == nil {
		return nil
	}
	return r.Admit(p)
}

func (r room) take(p *v1.Pod) {
	if r.Room != nil {
		r.Take(p)
	}
}

// roomLocked is the room that the chosen workers leave.
func (m *Manager) roomLocked(chosen func(*worker) bool) room {
	if m.cfg.Node == nil {
		return room{}
	}
	node := m.cfg.Node()
	if node == nil {
		return room{}
	}
	return room{pod.NewRoom(node, m.takersLocked(chosen))}
}

func everyWorker(*worker) bool { return true }
func stays(w *worker) bool     { return !w.leavingLocked() }

// takersLocked are the Pods of the chosen workers that take room.
func (m *Manager) takersLocked(chosen func(*worker) bool) []*v1.Pod {
	var pods []*v1.Pod
	for _, w := range m.workers {
		if w.takesRoomLocked() && chosen(w) {
			pods = append(pods, w.roomOfLocked())
		}
	}
	return pods
}

// leavingLocked reports whether the Pod is on its way out with nothing left to wait for but the end of its processes,
// while for the API its room is free already or will be at any moment. The Manager's lock is held.
func (w *worker) leavingLocked() bool {
	if w.dropped || w.evicted || w.source == orphan {
		return true
	}
	p := w.desired
	if podutil.Ended(p) {
		return true
	}
	// A deletion's time stamp is when its grace period is over.
	return p.DeletionTimestamp != nil && !w.m.cfg.Clock.Now().Before(p.DeletionTimestamp.Time)
}

// makeRoomLocked ends others for a critical Pod that the node has too little for, and reports whether there will be
// enough.
func (m *Manager) makeRoomLocked(p *v1.Pod) bool {
	if m.cfg.Node == nil || m.cfg.Node() == nil {
		return false
	}
	victims := pod.MakeRoom(p, m.cfg.Node(), m.takersLocked(stays))
	for _, v := range victims {
		m.workers[v.UID].eventOf(v, nil, v1.EventTypeWarning, pod.Preempted.Reason, pod.Preempted.Message)
		m.evictLocked(v.UID, pod.Preempted)
	}
	return len(victims) > 0
}

// refusesLocked returns which check of the node's a Pod that is new to it does not pass, nil for none.
func (m *Manager) refusesLocked(p *v1.Pod) *pod.Verdict {
	if len(m.cfg.Admit) == 0 {
		return nil
	}
	others := m.takersLocked(everyWorker)
	for _, check := range m.cfg.Admit {
		if v := check(p, others); v != nil {
			return v
		}
	}
	return nil
}

// roomChanged judges again what waits for room, when there may be more of it.
func (m *Manager) roomChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admitLocked()
	m.resizesLocked()
}
