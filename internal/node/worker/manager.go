package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// SourceAPI is the source of Pods that the API has; every other source is this node's own.
const SourceAPI = podutil.SourceAPI

// Config is what a Manager is made from.
type Config struct {
	Runtime internalapi.RuntimeService
	// ImageService answers for what is known of images; Images gets them.
	ImageService internalapi.ImageManagerService
	Images       Images
	// Client writes statuses and deletes; nil on a node that runs by itself.
	Client   kubernetes.Interface
	Recorder record.EventRecorder

	Builder Builder
	Volumes Volumes
	Probes  Probes
	Hooks   Hooks
	Cgroups PodCgroups

	// Node is the node as it was last registered, nil while it is not: Pods are then admitted unseen.
	Node func() *v1.Node
	// HostIPs are the node's addresses, the main one first, at most one of each family.
	HostIPs func() []string
	// Admit are checks of a Pod that is new to the node, asked in order before it is seen whether there is room for
	// it; others are the Pods that are there. The first verdict refuses the Pod.
	Admit []func(p *v1.Pod, others []*v1.Pod) *pod.Verdict
	// Sources are the sources that must have spoken before what no source knows is removed.
	Sources []string
	// OnEnd is told of each Pod of which nothing is left; it may be nil.
	OnEnd func(p *v1.Pod)
	// PullProgress says how a pull of the image fares, "" for nothing to say; nil says nothing ever.
	PullProgress func(image string) string
	// Policies are awaited before a Pod's containers start; nil enforces none.
	Policies Policies
	// RuntimeHandler returns the runtime handler of a RuntimeClass; nil is that there are none.
	RuntimeHandler func(ctx context.Context, class string) (string, error)
	// Marks is a folder for notes of postStart handlers under way, which must run again when the daemon was
	// killed in their midst; "" keeps none.
	Marks string
	// Allocations is a folder for what resized Pods were allocated; "" keeps none.
	Allocations string

	// MaxBackoff is the longest wait before a container is started again; 0 is Kubernetes' five minutes.
	MaxBackoff time.Duration
	// RecursiveReadOnly is whether the runtime can mount read-only recursively.
	RecursiveReadOnly bool
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Manager has a worker for every Pod of the node. Its methods are safe for use from several goroutines and do
// not wait for the work they cause.
type Manager struct {
	cfg    Config
	report *reporter
	traces *traces

	mu      sync.Mutex
	ctx     context.Context // nil until the runtime was listed
	early   []early         // inputs that came before
	runtime string          // the scheme of container IDs
	workers map[types.UID]*worker
	// names are the static Pods that run, by full name: there is one of a name at a time. waiting are the
	// next of a name, again those whose UID is still in use by an earlier run of the same Pod.
	names   map[string]types.UID
	waiting map[string][]input
	again   map[types.UID]input
	// held are Pods that wait for room that others are giving up, in the order in which they get it; see room.go.
	held []input
	// timed are those among them of which an event will tell; see room_wait.go.
	timed  map[types.UID]bool
	spoken map[string]bool
	// found is what the runtime had when the daemon came up and no worker has claimed yet.
	found map[types.UID]*found
	swept bool
	// doubt asks for a look at what no Pod owns. begun are the Pods whose worker began during that look, nil when
	// there is none; see leftovers.go.
	doubt chan struct{}
	begun map[types.UID]bool
	// grants are the allocations that were noted before the daemon came up and no worker has claimed yet.
	grants map[types.UID]grant
}

// input is a Pod and where it is from.
type input struct {
	source string
	pod    *v1.Pod
}

// New makes a Manager; nothing happens before Run.
func New(cfg Config) *Manager {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	m := &Manager{
		cfg:     cfg,
		traces:  newTraces(),
		workers: map[types.UID]*worker{},
		names:   map[string]types.UID{},
		waiting: map[string][]input{},
		again:   map[types.UID]input{},
		spoken:  map[string]bool{},
		timed:   map[types.UID]bool{},
		doubt:   make(chan struct{}, 1),
	}
	m.report = newReporter(cfg.Client, cfg.Clock)
	return m
}

// early is an input that came before the runtime was listed: all Pods of a source, or news of one.
type early struct {
	source string
	all    bool
	uid    types.UID
	do     func()
}

// supersede adds an input to those that wait, and drops what it makes out of date: only the last word on a Pod, and on
// all Pods of a source, counts.
func supersede(queue []early, next early) []early {
	return append(slices.DeleteFunc(queue, func(old early) bool {
		return old.source == next.source && (next.all || (!old.all && old.uid == next.uid))
	}), next)
}

// do takes an input in under the lock: now or, before the runtime was listed, as soon as it was.
func (m *Manager) do(in early) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx == nil {
		m.early = supersede(m.early, in)
		return
	}
	in.do()
}

// SetPods tells all Pods of a source: those it had before and has no more are ended.
func (m *Manager) SetPods(source string, pods []*v1.Pod) {
	m.do(early{source: source, all: true, do: func() {
		m.setPodsLocked(source, pods)
		m.spoken[source] = true
		m.sweepLocked()
		m.admitLocked()
	}})
}

// UpdatePod tells that a source has a Pod, or has it changed.
func (m *Manager) UpdatePod(source string, p *v1.Pod) {
	m.do(early{source: source, uid: p.UID, do: func() { m.updateLocked(source, p) }})
}

// DeletePod tells that a source has a Pod no more.
func (m *Manager) DeletePod(source string, p *v1.Pod) {
	m.do(early{source: source, uid: p.UID, do: func() { m.removeLocked(source, p) }})
}

// Wake has the Pod's worker look again: something it observes has changed.
func (m *Manager) Wake(uid types.UID) {
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w != nil {
		w.post(nil)
	}
}

// Retry has what failed for want of an object be tried again at once: the Pod's volumes, and containers whose
// configuration could not be made.
func (m *Manager) Retry(uid types.UID) {
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w == nil {
		return
	}
	w.post(func() {
		w.work.Volumes.Retry = time.Time{}
		for _, s := range w.work.Starts {
			if s.Reason == configError {
				s.Retry = time.Time{}
			}
		}
	})
}

// Evict ends a Pod for a reason of the node's. The channel is closed when nothing of it runs any more and it has
// given back what it held; it is nil for a Pod that the node does not have.
func (m *Manager) Evict(uid types.UID, why pod.Verdict) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.evictLocked(uid, why)
}

// evictLocked ends a Pod; see Evict for the channel.
func (m *Manager) evictLocked(uid types.UID, why pod.Verdict) <-chan struct{} {
	w := m.workers[uid]
	if w == nil {
		return nil
	}
	end := make(chan struct{})
	w.evicted = true
	w.post(func() {
		if w.orders.Evict == nil {
			w.orders.Evict = &why
		} else if why.Grace != nil {
			w.orders.Evict.Grace = why.Grace
		}
		w.onHalt = append(w.onHalt, end)
	})
	return end
}

// Halt stops all Pods of the node as it goes down, each in its grace period, and gives back what they held. The
// API is not told: when the node is up again they go on. It answers when all have stopped or ctx ends.
func (m *Manager) Halt(ctx context.Context) error {
	every := func(*worker) bool { return true }
	if err := m.orderEnd(ctx, every, func(o *pod.Orders) { o.Halt = true }); err != nil {
		return fmt.Errorf("stop the pods of the node: %w", err)
	}
	return nil
}

// orderEnd gives the chosen workers an order and waits until each has given back what its Pod held, or until ctx ends.
func (m *Manager) orderEnd(ctx context.Context, chosen func(*worker) bool, order func(*pod.Orders)) error {
	m.mu.Lock()
	var ends []chan struct{}
	for _, w := range m.workers {
		if !chosen(w) {
			continue
		}
		done := make(chan struct{})
		ends = append(ends, done)
		w.post(func() {
			order(&w.orders)
			w.onHalt = append(w.onHalt, done)
		})
	}
	m.mu.Unlock()
	for _, done := range ends {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Pods returns the Pods of the node, each with its status as the node sees it.
func (m *Manager) Pods() []*v1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	pods := make([]*v1.Pod, 0, len(m.workers))
	for _, w := range m.workers {
		if p := w.view(); p != nil {
			pods = append(pods, p)
		}
	}
	return pods
}

// Pod returns a Pod of the node by its UID, as Pods does.
func (m *Manager) Pod(uid types.UID) (*v1.Pod, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[uid]
	if w == nil {
		return nil, false
	}
	p := w.view()
	return p, p != nil
}

// PodByName returns a Pod of the node by its name. Of several of one name it is the one that is not being
// deleted.
func (m *Manager) PodByName(namespace, name string) (*v1.Pod, bool) {
	var found *v1.Pod
	for _, p := range m.Pods() {
		if p.Namespace != namespace || p.Name != name {
			continue
		}
		if found == nil || p.DeletionTimestamp == nil {
			found = p
		}
	}
	return found, found != nil
}

// Trace returns the trace of the Pod that last had the name.
func (m *Manager) Trace(namespace, name string) (Trace, bool) { return m.traces.get(namespace, name) }

func fullName(p *v1.Pod) string { return p.Name + "_" + p.Namespace }
