package worker

import (
	"cmp"
	"encoding/json"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// What a Pod is granted is the Manager's to say, for it is of all Pods' room that the node grants some. The
// worker knows its Pod only with the resources that are allocated.

// grantOfLocked is what is known of the allocation of a Pod that gets its worker: its grant, or what the runtime's
// containers were made with, or else its spec. The lock is held.
func (m *Manager) grantOfLocked(p *v1.Pod, had *found) grant {
	if r, ok := m.grants[p.UID]; ok {
		delete(m.grants, p.UID)
		return r
	}
	r := grant{Allocated: pod.AllocationOf(p)}
	if had == nil {
		return r
	}
	for name, a := range had.granted() {
		if _, known := r.Allocated.Containers[name]; known {
			r.Allocated.Pod, r.Allocated.Containers[name] = a.Pod, a.Containers[name]
		}
	}
	held := r.Allocated
	r.Cgroup = &held
	return r
}

// wantsLocked takes in the Pod as its source has it now, and returns the Pod as it is allocated. The lock is
// held.
func (m *Manager) wantsLocked(w *worker, p *v1.Pod) {
	old := w.desired
	w.desired = p
	if w.grant.Allocated.Holds(p) {
		w.pending = nil
	} else if w.pending == nil || !apiequality.Semantic.DeepEqual(pod.AllocationOf(old), pod.AllocationOf(p)) {
		// First, for a status that says it has seen the spec says what becomes of it.
		m.resizesLocked()
	}
	granted, pending := w.grant.Allocated.Apply(p), w.pending
	w.postLatest(topicPod, func() {
		w.setPod(granted, p)
		w.orders.Pending = pending
	})
}

// resizesLocked judges all resizes that are not granted yet. The lock is held.
func (m *Manager) resizesLocked() {
	if !m.swept {
		return // there may be Pods whose room is not counted yet
	}
	var waiting []*worker
	for _, w := range m.workers {
		if w.source != orphan && w.desired.DeletionTimestamp == nil && w.takesRoomLocked() && !w.grant.Allocated.Holds(w.desired) {
			waiting = append(waiting, w)
		}
	}
	slices.SortFunc(waiting, sooner)
	for _, w := range waiting {
		m.judgeResizeLocked(w)
	}
}

// sooner orders resizes: those first that ask for no more, then by priority, by class of service, and by how
// long they wait.
func sooner(a, b *worker) int {
	rank := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	since := func(w *worker) int64 {
		if w.pending == nil {
			return w.m.cfg.Clock.Now().UnixNano()
		}
		return w.pending.LastTransitionTime.UnixNano()
	}
	priority := func(w *worker) int32 {
		if p := w.desired.Spec.Priority; p != nil {
			return *p
		}
		return 0
	}
	guaranteed := func(w *worker) bool { return podutil.QOSClass(w.desired) == v1.PodQOSGuaranteed }
	return cmp.Or(
		cmp.Compare(rank(!a.asksMoreLocked()), rank(!b.asksMoreLocked())),
		cmp.Compare(priority(b), priority(a)),
		cmp.Compare(rank(guaranteed(a)), rank(guaranteed(b))),
		cmp.Compare(since(a), since(b)),
		cmp.Compare(a.uid, b.uid),
	)
}

// asksMoreLocked reports whether the Pod wants more of the node than it is allocated. The lock is held.
func (w *worker) asksMoreLocked() bool {
	has := resourcehelper.PodRequests(w.grant.Allocated.Apply(w.desired), resourcehelper.PodResourcesOptions{})
	wants := resourcehelper.PodRequests(w.desired, resourcehelper.PodResourcesOptions{})
	return wants.Memory().Cmp(*has.Memory()) > 0 || wants.Cpu().Cmp(*has.Cpu()) > 0
}

// judgeResizeLocked grants a resize, or says why it must wait. The lock is held.
func (m *Manager) judgeResizeLocked(w *worker) {
	p := w.desired
	if m.cfg.Node != nil {
		node := m.cfg.Node()
		if node == nil {
			return
		}
		if v := pod.Admit(p, node, m.othersOfLocked(w)); v != nil {
			m.defersLocked(w, v)
			return
		}
	}
	before := w.grant
	if before.Cgroup == nil {
		held := before.Allocated
		w.grant.Cgroup = &held
	}
	w.grant.Allocated = pod.AllocationOf(p)
	if err := m.keepLocked(w); err != nil {
		// What is not written down would be forgotten with the daemon; the next change or the resync tries again.
		w.log().Error(err, "Cannot note the resources allocated to the pod")
		w.grant = before
		return
	}
	w.pending = nil
	w.eventOf(p, nil, v1.EventTypeNormal, "ResizeStarted", resizeMessage(p, "Pod resize started", p.Generation, ""))
	w.post(func() {
		w.setPod(p, p)
		w.orders.Pending, w.orders.Resize = nil, p.Generation
		w.work.Resize = pod.Step{Busy: w.work.Resize.Busy}
		w.resizing = true
	})
}

// defersLocked says why a resize must wait. The lock is held.
func (m *Manager) defersLocked(w *worker, why *pod.Verdict) {
	now := metav1.NewTime(m.cfg.Clock.Now())
	next := &v1.PodCondition{
		Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: v1.PodReasonDeferred, Message: why.Message,
		ObservedGeneration: w.desired.Generation, LastProbeTime: now, LastTransitionTime: now,
	}
	old := w.pending
	if old != nil && old.Reason == next.Reason {
		next.LastTransitionTime = old.LastTransitionTime
		if old.Message == next.Message && old.ObservedGeneration == next.ObservedGeneration {
			next = old
		}
	}
	w.pending = next
	if old == nil || old.Reason != next.Reason || old.ObservedGeneration != next.ObservedGeneration {
		w.eventOf(w.desired, nil, v1.EventTypeWarning, "ResizeDeferred",
			resizeMessage(w.desired, "Pod resize "+next.Reason, w.desired.Generation, next.Message))
	}
	granted, asked := w.grant.Allocated.Apply(w.desired), w.desired
	w.postLatest(topicPod, func() {
		w.setPod(granted, asked)
		w.orders.Pending = next
	})
}

// othersOfLocked are the Pods that take room on the node besides one, those among them that wait for it. The lock is held.
func (m *Manager) othersOfLocked(one *worker) []*v1.Pod {
	var others []*v1.Pod
	for _, in := range m.held {
		others = append(others, in.pod)
	}
	for _, w := range m.workers {
		if w != one && w.takesRoomLocked() {
			others = append(others, w.roomOfLocked())
		}
	}
	return others
}

// roomOfLocked is the Pod for its room to be counted: as allocated, with the status that says what it still has of
// what it had before. The lock is held.
func (w *worker) roomOfLocked() *v1.Pod {
	if w.source == orphan {
		return w.shared.Load().pod
	}
	s := w.shared.Load()
	p := *w.grant.Allocated.Apply(w.desired)
	p.Status = s.status
	return &p
}

// resizeMessage says in an event which resources a Pod asks for.
func resizeMessage(p *v1.Pod, head string, generation int64, failed string) string {
	type sized struct {
		Name      string                  `json:"name"`
		Resources v1.ResourceRequirements `json:"resources,omitempty"` //nolint:modernize // as Kubernetes writes it
	}
	list := func(all []v1.Container) (out []sized) {
		for i := range all {
			out = append(out, sized{all[i].Name, all[i].Resources})
		}
		return out
	}
	text, err := json.Marshal(struct {
		InitContainers []sized `json:"initContainers,omitempty"`
		Containers     []sized `json:"containers,omitempty"`
		Generation     int64   `json:"generation"`
		Error          string  `json:"error,omitempty"`
	}{list(p.Spec.InitContainers), list(p.Spec.Containers), generation, failed})
	if err != nil {
		return head
	}
	return head + ": " + string(text)
}
