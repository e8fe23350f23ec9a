package worker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/probe"
	"podium.dev/podium/internal/podutil"
)

// worker has one Pod.
type worker struct {
	m      *Manager
	uid    types.UID
	source string
	// dropped is that the source has the Pod no more, evicted that the node ends it; the Manager's lock guards them.
	dropped, evicted bool
	// desired is the Pod as its source has it, grant the part of that which the node has granted, and pending why it has
	// not granted the rest; the Manager's lock guards them.
	desired *v1.Pod
	grant   grant
	pending *v1.PodCondition
	// shared is what others may see of the Pod.
	shared atomic.Pointer[shared]

	// ctx ends with the Manager.
	ctx context.Context

	mu   sync.Mutex
	mail []letter
	wake chan struct{}

	// The rest is the worker's goroutine's own. The Pod has the resources that are allocated; asked is as
	// its source has it.
	pod    *v1.Pod
	asked  *v1.Pod
	status v1.PodStatus
	orders pod.Orders
	work   pod.Work
	// sandboxes and containers are what the runtime has, newest first.
	sandboxes  []pod.Sandbox
	containers []pod.Container
	probed     []probe.Target
	// cgroup is what the Pod's cgroup is held to, granted what containers were resized to since they were
	// made, by ID; resizing is that a resize was granted whose end is to be told.
	cgroup   *pod.Allocation
	granted  map[string]pod.Allocation
	resizing bool
	// cancels end work under way, by its key.
	cancels map[string]*context.CancelFunc
	// onHalt are closed when nothing of the Pod runs and it has given back what it held.
	onHalt []chan struct{}
	trace  *tracer
	done   bool
}

// shared is what others may see of a worker's Pod.
type shared struct {
	pod    *v1.Pod
	status v1.PodStatus
	// over is that the Pod is past its live stage and nothing of it runs: it takes no room any more.
	over bool
}

func newWorker(m *Manager, source string, p *v1.Pod, had *found, r grant) *worker {
	asked := p
	p = r.Allocated.Apply(p)
	if p != asked {
		// Until what the spec asks for was judged, its status does not say that it was seen.
		p.Generation = min(p.Generation, max(p.Status.ObservedGeneration, 1))
	}
	w := &worker{
		m: m, uid: p.UID, source: source, pod: p, asked: asked, status: p.Status,
		desired: asked, grant: r, cgroup: r.Cgroup, granted: r.Containers,
		wake:    make(chan struct{}, 1),
		cancels: map[string]*context.CancelFunc{},
		trace:   m.traces.begin(p, m.cfg.Clock.Now()),
		work: pod.Work{
			Pulls: map[string]*pod.Pull{}, VolumePulls: map[string]*pod.Pull{}, Starts: map[string]*pod.Start{}, Hooks: map[string]pod.Hook{},
			Kills: map[string]*pod.Kill{}, Removals: map[string]*pod.Step{}, Sandboxes: map[string]*pod.Step{},
			Warned: map[string]bool{},
		},
	}
	w.resume()
	ended := podutil.Ended(p)
	w.orders.Settled = ended && (had == nil || had.quiet())
	w.shared.Store(&shared{pod: p, status: p.Status, over: w.orders.Settled})
	w.ctx = klog.NewContext(m.ctx, klog.FromContext(m.ctx).WithValues("pod", klog.KObj(p), "podUID", p.UID))
	if had != nil {
		w.orders.Resumed = p.DeletionTimestamp != nil
		w.mail = append(w.mail, letter{do: func() { w.load(had) }})
	}
	return w
}

// resume takes up the resizes that an earlier daemon has told of.
func (w *worker) resume() {
	for i := range w.pod.Status.Conditions {
		switch c := &w.pod.Status.Conditions[i]; c.Type {
		case v1.PodResizePending:
			if w.pod != w.asked {
				w.pending, w.orders.Pending = c, c
			}
		case v1.PodResizeInProgress:
			w.resizing, w.orders.Resize = true, c.ObservedGeneration
		}
	}
}

// letter is something for the worker to do. Of several with one topic that wait only the last is done.
type letter struct {
	topic string // "" is one of its own
	do    func()
}

// topicPod is the topic of news of the Pod itself. That of a container or sandbox is its ID.
const topicPod = "pod"

// post has the worker do f, if there is any, and look again. It never waits.
func (w *worker) post(f func()) { w.postLatest("", f) }

// postLatest is post for what makes earlier letters of the topic out of date, so that a worker that is held up does
// not come back to a pile of them.
func (w *worker) postLatest(topic string, f func()) {
	if f != nil {
		w.mu.Lock()
		if topic != "" {
			w.mail = slices.DeleteFunc(w.mail, func(l letter) bool { return l.topic == topic })
		}
		w.mail = append(w.mail, letter{topic, f})
		w.mu.Unlock()
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run is the worker's goroutine.
func (w *worker) run() {
	for {
		w.read()
		at := w.reconcile()
		if w.done {
			w.finish()
			return
		}
		if !w.sleep(at) {
			return
		}
	}
}

// sleep waits for something to do, at most until a time, if that is not zero. It reports whether the worker
// is to go on.
func (w *worker) sleep(at time.Time) bool {
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := w.m.cfg.Clock.NewTimer(at.Sub(w.m.cfg.Clock.Now()))
		defer timer.Stop()
		if !w.m.cfg.Clock.Now().Before(at) {
			return w.ctx.Err() == nil
		}
		alarm = timer.C()
	}
	select {
	case <-w.wake:
	case <-alarm:
	case <-w.ctx.Done():
		return false
	}
	return true
}

// read does what was posted.
func (w *worker) read() {
	w.mu.Lock()
	mail := w.mail
	w.mail = nil
	w.mu.Unlock()
	for _, l := range mail {
		l.do()
	}
}

// setPod takes in the Pod as its source has it now, and with the resources that are allocated.
func (w *worker) setPod(p, asked *v1.Pod) {
	old := w.pod
	w.pod, w.asked = p, asked
	if !maps.Equal(old.Labels, p.Labels) || !maps.Equal(old.Annotations, p.Annotations) {
		w.m.cfg.Volumes.Update(p)
	}
}

// reconcile brings the Pod one step on, and answers when to look again at the latest.
func (w *worker) reconcile() (at time.Time) {
	// What is done at once can make more possible at once; that ends after a few rounds.
	for range 8 {
		o := w.observe()
		w.status = pod.Status(w.pod, &w.status, o)
		ending := pod.Ending(w.pod, &w.status, o)
		if ending {
			w.abandon()
		}
		w.tell(o, ending)
		again := false
		at = time.Time{}
		for _, a := range pod.Plan(w.pod, &w.status, o) {
			if wake, ok := a.(pod.Wake); ok {
				at = wake.At
				continue
			}
			again = w.carry(a) || again
		}
		w.syncProbes(o)
		if o.Quiet() && ending {
			w.quiet(o)
		}
		if !again {
			break
		}
	}
	return at
}

// observe gathers all that is known of the Pod.
func (w *worker) observe() *pod.Observed {
	cfg := &w.m.cfg
	o := &pod.Observed{
		Now: cfg.Clock.Now(), Sandboxes: w.sandboxes, Containers: w.containers,
		Orders: w.orders, Work: w.work, Cgroup: w.cgroup,
		Node: pod.Node{Runtime: w.m.runtime, MaxBackoff: cfg.MaxBackoff, RecursiveReadOnly: cfg.RecursiveReadOnly},
	}
	if cfg.HostIPs != nil {
		o.Node.HostIPs = cfg.HostIPs()
	}
	outcomes := cfg.Probes.Outcomes(w.uid)
	if len(outcomes) > 0 {
		o.Probes = make(map[string]pod.Probe, len(outcomes))
		for id, out := range outcomes {
			o.Probes[id] = pod.Probe{Started: out.Started, Ready: out.Ready, Live: out.Live}
		}
	}
	return o
}

// tell lets others see the status, and writes it.
func (w *worker) tell(o *pod.Observed, ending bool) {
	old := w.shared.Load()
	if old.status.Reason != w.status.Reason && w.status.Reason == pod.DeadlineExceeded {
		w.event(nil, v1.EventTypeNormal, pod.DeadlineExceeded, pod.DeadlineExceededMessage)
	}
	if w.orders.Reject != nil && old.status.Phase != v1.PodFailed {
		w.event(nil, v1.EventTypeWarning, w.orders.Reject.Reason, w.orders.Reject.Message)
	}
	over := ending && o.Quiet()
	w.shared.Store(&shared{pod: w.pod, status: w.status, over: over})
	if over && !old.over {
		w.m.roomChanged()
	}
	w.resizeOver()
	w.trace.mark(&w.status, o.Now)
	if w.source != orphan && !w.orders.Halt {
		w.publish(o)
	}
}

// publish has the status written.
func (w *worker) publish(o *pod.Observed) {
	quiet := o.Quiet()
	w.m.report.set(w.asked, w.source != SourceAPI, w.status, !quiet, o.Gone(), w.trace)
}

// quiet takes in that nothing of the Pod runs any more. The worker of a Pod that has left the node is done.
func (w *worker) quiet(o *pod.Observed) {
	if w.work.TearDown.Done {
		for _, c := range w.onHalt {
			close(c)
		}
		w.onHalt = nil
	}
	if !o.Gone() {
		return
	}
	// A deleted Pod of the API stays until its object is gone, which its source tells.
	w.done = w.orders.Removed || w.source == orphan
}

// finish lets go of everything.
func (w *worker) finish() {
	for _, c := range w.onHalt {
		close(c)
	}
	for _, cancel := range w.cancels {
		(*cancel)()
	}
	w.m.report.forget(w.uid)
	w.m.cfg.Images.Forget(w.pod)
	w.m.ended(w)
}

// takesRoomLocked reports whether the Pod's requests count against the node. The Manager's lock is held.
func (w *worker) takesRoomLocked() bool {
	return w.orders.Reject == nil && !w.shared.Load().over
}

// view is the Pod with its status, as others may have it; nil for one that is not a Pod of any source.
func (w *worker) view() *v1.Pod {
	if w.source == orphan {
		return nil
	}
	s := w.shared.Load()
	p := *s.pod
	p.Status = s.status
	return &p
}

// syncProbes has the probes run of the containers that run.
func (w *worker) syncProbes(o *pod.Observed) {
	var targets []probe.Target
	ips := pod.PodIPs(o)
	ip := ""
	switch {
	case len(ips) > 0:
		ip = ips[0]
	case w.pod.Spec.HostNetwork && len(o.Node.HostIPs) > 0:
		ip = o.Node.HostIPs[0]
	}
	for _, c := range pod.Probed(w.pod, o) {
		targets = append(targets, probe.Target{Container: c.Name, ID: c.ID, StartedAt: c.StartedAt, PodIP: ip})
	}
	if sameTargets(targets, w.probed) {
		return
	}
	w.probed = targets
	if len(targets) == 0 && o.Quiet() {
		w.m.cfg.Probes.Remove(w.uid)
		return
	}
	w.m.cfg.Probes.Sync(w.pod, targets)
}

func sameTargets(a, b []probe.Target) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].PodIP != b[i].PodIP {
			return false
		}
	}
	return true
}
