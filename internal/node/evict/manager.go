package evict

import (
	"context"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/pod"
)

const (
	// quick is the grace in seconds of a Pod that has to go at once.
	quick = 1
	// patience is how long the node waits for a Pod that it ended to be gone before it looks again.
	patience = 30 * time.Second
	// breath is the shortest time between two looks that the kernel asks for.
	breath = time.Second
)

// Pods are the node's Pods; *worker.Manager has them.
type Pods interface {
	// Active are those that may have something running.
	Active() []*v1.Pod
	// Evict ends a Pod. The channel is closed when nothing of it is left but what the runtime remembers; it is nil for
	// a Pod that the node does not have.
	Evict(uid types.UID, why pod.Verdict) <-chan struct{}
}

// Source says what there is of everything, and what Pods use of it.
type Source interface {
	// Observe returns what there is of these signals; of what cannot be seen it says nothing but in the error.
	Observe(ctx context.Context, signals []Signal) (Observations, error)
	// Layout says which file systems are one.
	Layout(ctx context.Context) (Layout, error)
	// Group is a Pod's memory and processes, Storage what it keeps on disk, Containers what each of its containers uses.
	Group(p *v1.Pod) (stats.PodStats, bool)
	Storage(ctx context.Context, p *v1.Pod) (stats.PodStats, error)
	Containers(ctx context.Context, p *v1.Pod) ([]stats.ContainerStats, error)
	// Forget drops what is remembered of Pods that are not among these.
	Forget(keep []*v1.Pod)
}

// Config is what a Manager is made from.
type Config struct {
	Settings *kubeletconfig.KubeletConfiguration
	Source   Source
	Pods     Pods
	// FreeContainers removes what is left of containers of Pods that have ended, FreeImages images that nobody uses.
	FreeContainers, FreeImages func(ctx context.Context) error
	// Watch has the kernel say when memory falls short; nil leaves that to the clock.
	Watch *Watch
	// OnChange is told that the node's conditions have changed.
	OnChange func()
	Recorder record.EventRecorder
	Node     func() *v1.ObjectReference
	Clock    clock.WithTicker
}

// Manager looks after the node's resources.
type Manager struct {
	c          Config
	thresholds []Threshold

	mu         sync.Mutex
	conditions []v1.NodeConditionType

	// The rest is Run's own. state is nil until the layout is known.
	state   *State
	layout  Layout
	signals []Signal
}

// New makes a Manager. The error is that of a setting.
func New(c Config) (*Manager, error) {
	thresholds, err := Thresholds(c.Settings)
	if err != nil {
		return nil, err
	}
	return &Manager{c: c, thresholds: thresholds}, nil
}

// Conditions are those that the node has.
func (m *Manager) Conditions() []v1.NodeConditionType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conditions
}

// Admit is Admit with the conditions that the node has now.
func (m *Manager) Admit(p *v1.Pod, _ []*v1.Pod) *pod.Verdict { return Admit(p, m.Conditions()) }

// Run looks after the node until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	for {
		now := m.c.Clock.Now()
		next := now.Add(period)
		ends, v, err := m.look(ctx, now)
		switch {
		case err != nil:
			klog.FromContext(ctx).Error(err, "Could not see to the node's resources")
		case len(ends) > 0:
			m.await(ctx, ends)
			next = m.c.Clock.Now()
		case !v.Next.IsZero() && v.Next.Before(next):
			next = v.Next
		}
		if !m.sleep(ctx, now, next) {
			return
		}
	}
}

// sleep waits for the next look, or for the kernel to say that memory is short. It reports whether to go on.
func (m *Manager) sleep(ctx context.Context, last, next time.Time) bool {
	var woken chan struct{}
	if m.c.Watch != nil {
		woken = m.c.Watch.C
	}
	if m.wait(ctx, next, woken) {
		m.wait(ctx, last.Add(breath), nil)
	}
	return ctx.Err() == nil
}

// wait waits until a time, and reports whether something came before it.
func (m *Manager) wait(ctx context.Context, until time.Time, woken <-chan struct{}) bool {
	left := until.Sub(m.c.Clock.Now())
	if left <= 0 {
		return false
	}
	timer := m.c.Clock.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C():
		return false
	case <-ctx.Done():
		return true
	case <-woken:
		return true
	}
}

// await waits for Pods to be gone, but not for ever.
func (m *Manager) await(ctx context.Context, ends []<-chan struct{}) {
	timer := m.c.Clock.NewTimer(patience)
	defer timer.Stop()
	for _, end := range ends {
		select {
		case <-end:
		case <-timer.C():
			klog.FromContext(ctx).Info("Evicted pods take long to end")
			return
		case <-ctx.Done():
			return
		}
	}
}

// look sees how things are and does what has to be done. It returns the ends of the Pods that it ended.
func (m *Manager) look(ctx context.Context, now time.Time) ([]<-chan struct{}, Verdict, error) {
	if err := m.begin(ctx); err != nil {
		return nil, Verdict{}, err
	}
	if len(m.signals) == 0 && !m.limits() {
		return nil, Verdict{}, nil
	}
	seen, err := m.c.Source.Observe(ctx, m.signals)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot see all of the node's resources")
	}
	if m.c.Watch != nil {
		m.c.Watch.Set(ctx, m.state.thresholds, seen)
	}
	v := m.state.Observe(now, seen)
	m.set(v.Conditions)
	pods := m.c.Pods.Active()
	if ends := m.evictExceeding(ctx, pods); len(ends) > 0 {
		return ends, v, nil
	}
	if len(v.Due) == 0 {
		return nil, v, nil
	}
	return m.reclaim(ctx, pods, v.Due, seen), v, nil
}

// begin finds out, once, which file systems the node has.
func (m *Manager) begin(ctx context.Context) error {
	if m.state != nil {
		return nil
	}
	var err error
	if m.layout, err = m.c.Source.Layout(ctx); err != nil {
		return err
	}
	m.state = NewState(For(m.layout, m.thresholds), m.c.Settings.EvictionPressureTransitionPeriod.Duration)
	for i := range m.state.thresholds {
		if s := m.state.thresholds[i].Signal; !slices.Contains(m.signals, s) {
			m.signals = append(m.signals, s)
		}
	}
	return nil
}

// limits reports whether Pods are held to what they may keep on disk.
func (m *Manager) limits() bool {
	on := m.c.Settings.LocalStorageCapacityIsolation
	return on == nil || *on
}

func (m *Manager) set(conditions []v1.NodeConditionType) {
	m.mu.Lock()
	same := slices.Equal(m.conditions, conditions)
	m.conditions = conditions
	m.mu.Unlock()
	if !same && m.c.OnChange != nil {
		m.c.OnChange()
	}
}

// evictExceeding ends the Pods that keep more on disk than they may. Only those that have a bound are measured.
func (m *Manager) evictExceeding(ctx context.Context, pods []*v1.Pod) (ends []<-chan struct{}) {
	if !m.limits() {
		return nil
	}
	m.c.Source.Forget(pods)
	for _, p := range pods {
		if !Limited(p) || !runs(p) || pod.Critical(p) {
			continue
		}
		use, err := m.c.Source.Storage(ctx, p)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Cannot measure what a pod keeps on disk", "pod", klog.KObj(p))
			continue
		}
		if why := Exceeds(p, &use, m.layout); why != "" {
			ends = m.evict(ctx, ends, p, why, nil, pod.Verdict{Grace: seconds(quick)})
		}
	}
	return ends
}

// runs reports whether the Pod has a container that runs.
func runs(p *v1.Pod) bool {
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		if slices.ContainsFunc(list, func(c v1.ContainerStatus) bool { return c.State.Running != nil }) {
			return true
		}
	}
	return false
}

// reclaim gets back what is most short: from what nobody uses if that is enough, else from one Pod.
func (m *Manager) reclaim(ctx context.Context, pods []*v1.Pod, due []Threshold, seen Observations) []<-chan struct{} {
	log := klog.FromContext(ctx)
	signal := due[0].Signal
	short := signal.resource()
	log.Info("The node is short of a resource", "signal", signal, "resource", short)
	m.c.Recorder.Eventf(m.c.Node(), v1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", short)
	if m.free(ctx, signal) {
		log.Info("Got it back without ending a pod", "resource", short)
		return nil
	}
	usage := m.usage(ctx, signal)
	Rank(pods, signal, m.layout, usage)
	for _, p := range pods {
		if pod.Critical(p) {
			log.Info("A critical pod is not evicted", "pod", klog.KObj(p))
			continue
		}
		message, notes := explain(short, p, m.inDetail(ctx, signal, usage), due, seen)
		return m.evict(ctx, nil, p, message, notes, pod.Verdict{
			Grace: m.grace(p, &due[0]), Disruption: message, DisruptionReason: v1.PodReasonTerminationByKubelet,
		})
	}
	log.Info("There is no pod to be evicted", "resource", short)
	return nil
}

// grace is how long in seconds a Pod has that is ended for a threshold.
func (m *Manager) grace(p *v1.Pod, t *Threshold) *int64 {
	if t.Hard() {
		return seconds(quick)
	}
	most := int64(m.c.Settings.EvictionMaxPodGracePeriod)
	if own := p.Spec.TerminationGracePeriodSeconds; own != nil {
		most = min(most, *own)
	}
	return &most
}

func seconds(n int64) *int64 { return &n }

// evict tells of a Pod's eviction and begins it.
func (m *Manager) evict(ctx context.Context, ends []<-chan struct{}, p *v1.Pod, message string, notes map[string]string, v pod.Verdict) []<-chan struct{} {
	klog.FromContext(ctx).Info("Evicting a pod", "pod", klog.KObj(p), "podUID", p.UID, "message", message)
	v.Reason, v.Message = Reason, message
	m.c.Recorder.AnnotatedEventf(p, notes, v1.EventTypeWarning, Reason, "%s", message)
	if end := m.c.Pods.Evict(p.UID, v); end != nil {
		ends = append(ends, end)
	}
	return ends
}

// free frees what nobody uses of what the signal is short of, and reports whether that was enough.
func (m *Manager) free(ctx context.Context, s Signal) bool {
	frees := m.frees(s)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, free := range frees {
		if err := free(bounded); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot free what nobody uses", "signal", s)
		}
	}
	if len(frees) == 0 {
		return false
	}
	seen, err := m.c.Source.Observe(ctx, m.signals)
	return err == nil && m.state.Relieved(seen)
}

// frees are what can be freed on the file system of a signal.
func (m *Manager) frees(s Signal) []func(context.Context) error {
	node := s == NodeFsAvailable || s == NodeFsInodesFree
	image := s == ImageFsAvailable || s == ImageFsInodesFree
	switch {
	case s.condition() != v1.NodeDiskPressure:
		return nil
	case m.layout.DedicatedImages && m.layout.SplitContainers && image:
		return []func(context.Context) error{m.c.FreeImages}
	case m.layout.DedicatedImages && m.layout.SplitContainers:
		return []func(context.Context) error{m.c.FreeContainers}
	case m.layout.DedicatedImages && node:
		return nil
	}
	return []func(context.Context) error{m.c.FreeContainers, m.c.FreeImages}
}

// usage returns what Pods use of what the signal is short of. Each Pod is measured once; nothing is known of one
// that has nothing running.
func (m *Manager) usage(ctx context.Context, s Signal) Usage {
	type answer struct {
		use   stats.PodStats
		known bool
	}
	asked := map[types.UID]answer{}
	return func(p *v1.Pod) (stats.PodStats, bool) {
		a, before := asked[p.UID]
		if before {
			return a.use, a.known
		}
		if runs(p) {
			if s.condition() == v1.NodeDiskPressure {
				use, err := m.c.Source.Storage(ctx, p)
				a = answer{use, err == nil}
			} else {
				a.use, a.known = m.c.Source.Group(p)
			}
		}
		asked[p.UID] = a
		return a.use, a.known
	}
}

// inDetail is the usage with that of each container.
func (m *Manager) inDetail(ctx context.Context, s Signal, usage Usage) Usage {
	return func(p *v1.Pod) (stats.PodStats, bool) {
		use, known := usage(p)
		if known && s.resource() == v1.ResourceMemory {
			containers, err := m.c.Source.Containers(ctx, p)
			if err != nil {
				klog.FromContext(ctx).Error(err, "Cannot see what the containers of a pod use", "pod", klog.KObj(p))
			}
			use.Containers = containers
		}
		return use, known
	}
}
