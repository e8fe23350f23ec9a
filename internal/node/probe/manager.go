// Package probe asks containers whether they live, are ready and have started, as their Pods' probes say.
//
// There is no goroutine for a probe that waits: the clock calls when it is due, it runs in a goroutine of its
// own, and when that ends the next call is arranged. So a probe that hangs delays no other, and one that is
// removed leaves nothing behind.
package probe

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/podutil"
)

// Config is what a Manager is made from.
type Config struct {
	// Runtime runs exec probes.
	Runtime internalapi.RuntimeService
	// Recorder gets Unhealthy and ProbeWarning events.
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
	// OnChange is told that an outcome of the Pod changed. It must not block.
	OnChange func(uid types.UID)
}

// Target is a running container whose probes are to run.
type Target struct {
	// Container is its name, ID the runtime's (without a scheme).
	Container, ID string
	// StartedAt is when it started: initialDelaySeconds counts from here.
	StartedAt time.Time
	PodIP     string
}

// Outcome is what the probes of a container say by now. A nil member is a probe that the container does not
// have, or that has not concluded yet.
type Outcome struct {
	Started, Ready, Live *bool
	// Message is why Live or Started is false.
	Message string
}

// Manager runs the probes of all Pods of the node. It is safe for use from several goroutines.
type Manager struct {
	cfg    Config
	clock  clock.WithDelayedExecution
	asker  asker
	began  time.Time
	jitter func(time.Duration) time.Duration

	mu   sync.Mutex
	pods map[types.UID]*podProbes
}

// podProbes are the probed containers of a Pod by their IDs.
type podProbes struct {
	pod        *v1.Pod
	containers map[string]*containerProbes
}

// containerProbes are the probes of one run of a container. The Manager's lock guards it.
type containerProbes struct {
	uid    types.UID
	target Target
	spec   *v1.Container
	// ctx ends with the container: what is being asked is given up.
	ctx     context.Context
	cancel  context.CancelFunc
	probes  [kinds]*task
	outcome Outcome
}

// task is one probe of a container.
type task struct {
	state
	spec  *v1.Probe
	of    *containerProbes
	beat  time.Time
	timer clock.Timer
}

// New makes a Manager that probes nothing yet.
func New(cfg Config) *Manager {
	c := delayed(cfg.Clock)
	return &Manager{
		cfg: cfg, clock: c, asker: newAsker(cfg.Runtime), began: c.Now(), pods: map[types.UID]*podProbes{},
		jitter: func(d time.Duration) time.Duration { return rand.N(d) },
	}
}

// Sync makes the probes of the Pod those of the running containers: new ones begin, those of containers that
// are not in running end. Of a Pod that is being deleted only readiness is probed on.
func (m *Manager) Sync(pod *v1.Pod, running []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[pod.UID]
	if p == nil {
		p = &podProbes{containers: map[string]*containerProbes{}}
	}
	p.pod = pod
	alive := map[string]bool{}
	for _, t := range running {
		alive[t.ID] = true
		if p.containers[t.ID] == nil {
			if c := m.begin(pod, t); c != nil {
				p.containers[t.ID] = c
			}
		}
	}
	for id, c := range p.containers {
		switch {
		case !alive[id]:
			c.end()
			delete(p.containers, id)
		case pod.DeletionTimestamp != nil:
			c.probes[startup].drop()
			c.probes[liveness].drop()
		}
	}
	if len(p.containers) == 0 {
		delete(m.pods, pod.UID)
	} else {
		m.pods[pod.UID] = p
	}
}

// Remove ends all probes of the Pod.
func (m *Manager) Remove(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pods[uid]; p != nil {
		for _, c := range p.containers {
			c.end()
		}
		delete(m.pods, uid)
	}
}

// Outcomes returns what is known of the Pod's containers, by container ID.
func (m *Manager) Outcomes(uid types.UID) map[string]Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	outcomes := map[string]Outcome{}
	if p := m.pods[uid]; p != nil {
		for id, c := range p.containers {
			outcomes[id] = c.outcome
		}
	}
	return outcomes
}

// begin makes the probes of a container that runs; nil when it has none.
func (m *Manager) begin(pod *v1.Pod, t Target) *containerProbes {
	spec := containerOf(pod, t.Container)
	if spec == nil {
		return nil
	}
	c := &containerProbes{uid: pod.UID, target: t, spec: spec}
	for k := range kinds {
		if p := specOf(spec, k); p != nil {
			c.probes[k] = &task{state: newState(k, p), spec: p, of: c}
		}
	}
	if c.probes == [kinds]*task{} {
		return nil
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.remember(pod)
	if c.probes[startup] != nil && c.outcome.Started == nil {
		m.arrangeFirst(c.probes[startup])
	} else {
		m.arrangeStarted(c)
	}
	return c
}

// remember takes up what an earlier run of the node wrote of the same container: one that had started or was
// ready stays so until its probes say otherwise.
func (c *containerProbes) remember(pod *v1.Pod) {
	for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			st := &list[i]
			if st.Name != c.target.Container || !strings.HasSuffix(st.ContainerID, "://"+c.target.ID) {
				continue
			}
			yes := true
			if t := c.probes[startup]; t != nil && st.Started != nil && *st.Started {
				c.outcome.Started, t.held = &yes, true
			}
			if t := c.probes[readiness]; t != nil && st.Ready {
				c.outcome.Ready, t.verdict = &yes, &yes
			}
		}
	}
}

// arrangeStarted has the probes run that wait for the container to have started.
func (m *Manager) arrangeStarted(c *containerProbes) {
	for _, k := range []kind{liveness, readiness} {
		if t := c.probes[k]; t != nil {
			m.arrangeFirst(t)
		}
	}
}

// arrangeFirst arranges the first run of a probe. Those of containers that the node finds running when it
// begins are spread over a period.
func (m *Manager) arrangeFirst(t *task) {
	now := m.clock.Now()
	due := firstDue(t.of.target.StartedAt, now, t.spec)
	if period := periodOf(t.spec); t.of.target.StartedAt.Before(m.began) && now.Sub(m.began) < period {
		due = due.Add(m.jitter(period))
	}
	t.beat = due
	m.arrange(t, due.Sub(now))
}

func (m *Manager) arrange(t *task, in time.Duration) {
	// A clock may call from where it must not be asked the time.
	t.timer = m.clock.AfterFunc(in, func() { go m.run(t) })
}

// drop gives a probe up; nil is one that is not there.
func (t *task) drop() {
	if t == nil {
		return
	}
	t.held = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// end gives up all probes of a container.
func (c *containerProbes) end() {
	for _, t := range c.probes {
		t.drop()
	}
	c.cancel()
}

// run asks once, takes the answer and arranges the next time.
func (m *Manager) run(t *task) {
	c := t.of
	m.mu.Lock()
	p := m.pods[c.uid]
	wanted := !t.held && p != nil && p.containers[c.target.ID] == c
	var pod *v1.Pod
	if wanted {
		pod = p.pod
	}
	m.mu.Unlock()
	if !wanted {
		return
	}
	a := m.asker.ask(c.ctx, t.spec, c.spec, c.target)
	if c.ctx.Err() != nil {
		return
	}
	m.tell(pod, c.spec.Name, t.kind, a)
	if m.take(t, a) && m.cfg.OnChange != nil {
		m.cfg.OnChange(c.uid)
	}
}

// take notes an answer and reports whether an outcome changed. An answer that says nothing about the
// container is not counted.
func (m *Manager) take(t *task, a answer) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := t.of
	if t.held || c.ctx.Err() != nil {
		return false
	}
	if a.err == nil && t.observe(a.result != failed) {
		changed = true
		m.conclude(t, a)
	}
	if !t.held {
		now := m.clock.Now()
		next, beat := nextDue(t.beat, now, periodOf(t.spec))
		t.beat = beat
		m.arrange(t, next.Sub(now))
	}
	return changed
}

// conclude writes a verdict into the outcome. A container that has started is probed for the rest.
func (m *Manager) conclude(t *task, a answer) {
	o := &t.of.outcome
	verdict := *t.verdict
	switch t.kind {
	case startup:
		o.Started = &verdict
		if verdict {
			m.arrangeStarted(t.of)
		}
	case liveness:
		o.Live = &verdict
	case readiness:
		o.Ready = &verdict
	}
	if t.kind != readiness {
		o.Message = ""
		if !verdict {
			o.Message = a.text
		}
	}
}

// tell has the event of an answer that is not plain success.
func (m *Manager) tell(pod *v1.Pod, container string, k kind, a answer) {
	event := func(reason, format string, args ...any) {
		if m.cfg.Recorder != nil {
			m.cfg.Recorder.Eventf(podutil.ContainerReference(pod, container), v1.EventTypeWarning, reason, format, args...)
		}
	}
	klog.V(4).InfoS("Probed", "pod", klog.KObj(pod), "container", container, "probe", k, "result", a.result, "answer", a.text, "err", a.err)
	switch {
	case a.err != nil:
		event("Unhealthy", "%s probe errored and resulted in %s state: %s", k, a.result, a.err)
	case a.result == failed:
		event("Unhealthy", "%s probe failed: %s", k, a.text)
	case a.result == warned:
		event("ProbeWarning", "%s probe warning: %s", k, a.text)
	}
}

func containerOf(pod *v1.Pod, name string) *v1.Container {
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
