package pod

import (
	"flag"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

var (
	historySeed = flag.Uint64("history.seed", 0, "replay the random history of this seed, and say what happens in it")
	historyTime = flag.Duration("history.time", 2*time.Second, "how long to try random histories")
)

// historyGarbage is how much garbage the histories may leave, in percent of what they use: they leave much and use little.
const historyGarbage = 800

// TestRandomHistories drives the state machine through random histories: what users, containers, probes and
// the machine do, and the agent killed at any moment. A failure prints the seed of its history, which
// -history.seed replays.
func TestRandomHistories(t *testing.T) {
	if *historySeed != 0 {
		m := run(*historySeed, true)
		for _, line := range m.trace {
			t.Log(line)
		}
		if m.err != nil {
			t.Fatal(m.err)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(historyGarbage))
	base := uint64(time.Now().UnixNano())
	begun := time.Now()
	var n atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for time.Since(begun) < *historyTime && !t.Failed() {
				seed := base + n.Add(1)
				if m := run(seed, false); m.err != nil {
					t.Errorf("%v\nreplay with: go test -run TestRandomHistories -v -history.seed=%d", m.err, seed)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d histories, %.0f a second", n.Load(), float64(n.Load())/time.Since(begun).Seconds())
}

// run lives one history: a while of random events, then the Pod is deleted, and all must go.
func run(seed uint64, loud bool) *model {
	m := newModel(seed, loud)
	m.reconcile()
	for range 20 + m.rng.IntN(30) {
		if m.err != nil {
			return m
		}
		m.event()
	}
	m.failing = 0
	m.settle()
	m.delete(int64(m.rng.IntN(40)))
	for i := 0; i < 500 && m.err == nil && !m.gone(); i++ {
		if !m.step() && !m.gone() {
			m.fail("a deleted pod is stuck")
		}
	}
	if !m.gone() {
		m.fail("a deleted pod does not go")
	}
	if m.err == nil && !podutil.Terminal(m.api.Phase) {
		m.fail("a pod that is gone is %s", m.api.Phase)
	}
	return m
}

func (m *model) gone() bool { return m.o.Gone() }

// event is one thing that happens.
func (m *model) event() {
	switch m.rng.IntN(29) {
	case 0, 1, 2:
		if run := m.anyRun(); run != nil {
			code := []int32{0, 0, 1, 42, 137}[m.rng.IntN(5)]
			if code == 0 && m.o.Work.Kills[run.ID] == nil {
				m.done[run.Name] = true
			}
			m.exit(run.ID, code)
		}
	case 3, 4, 5:
		m.flip()
	case 6:
		m.say("the agent is killed")
		m.forget()
	case 7:
		if len(m.o.Sandboxes) > 0 && m.rng.IntN(3) == 0 {
			m.say("the sandbox dies")
			m.endSandbox(m.o.Sandboxes[0].ID)
		}
	case 8:
		if m.rng.IntN(4) == 0 {
			m.say("the machine is booted again")
			m.ops = nil
			for i := range m.o.Sandboxes {
				m.endSandbox(m.o.Sandboxes[i].ID)
			}
			m.forget()
		}
	case 9:
		c := &m.pod.Spec.Containers[m.rng.IntN(len(m.pod.Spec.Containers))]
		if m.rng.IntN(3) == 0 {
			m.say("the image of %s changes", c.Name)
			m.replaced = true
			next := m.pod.DeepCopy()
			Spec(next, c.Name).Image += "b"
			next.Generation++
			m.pod = next
		}
	case 10:
		if m.rng.IntN(6) == 0 || m.pod.DeletionTimestamp != nil {
			m.delete(int64(m.rng.IntN(60)))
		}
	case 11:
		if len(m.pod.Spec.EphemeralContainers) < 2 {
			next := m.pod.DeepCopy()
			next.Spec.EphemeralContainers = append(next.Spec.EphemeralContainers, v1.EphemeralContainer{
				EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e" + string(rune('0'+len(next.Spec.EphemeralContainers))), Image: "a"},
			})
			m.pod = next
		}
	case 12:
		if run := m.anyRun(); run != nil && m.rng.IntN(4) == 0 {
			m.say("%s is lost", run.ID)
			m.replaced = true // nobody knows how it ended, so it is made again
			run.State = Unknown
		}
	case 13:
		if m.rng.IntN(12) == 0 && m.o.Orders.Evict == nil {
			m.say("evicted")
			m.o.Orders.Evict = &Verdict{Reason: "Evicted", Message: "m", Disruption: "d", DisruptionReason: "r"}
			if m.rng.IntN(2) == 0 {
				m.o.Orders.Evict.Grace = new(int64)
			}
		}
	case 14:
		m.now = m.now.Add(time.Duration(m.rng.IntN(700)) * time.Second)
	case 15, 16:
		m.resize()
	default:
		m.step()
		return
	}
	m.reconcile()
}

// resize is a user's resize, which the node grants.
func (m *model) resize() {
	if m.pod.Spec.Containers[0].Resources.Requests == nil {
		return
	}
	p := m.pod.DeepCopy()
	lists := slices.Concat(p.Spec.Containers, p.Spec.InitContainers)
	c := Spec(p, lists[m.rng.IntN(len(lists))].Name)
	resizeTo(c, m.rng)
	p.Generation++
	m.say("%s is resized to %v", c.Name, c.Resources)
	m.pod, m.o.Orders.Resize = p, p.Generation
	m.o.Work.Resize = Step{Busy: m.o.Work.Resize.Busy}
	m.reconcile()
}

// settle lets all come to rest: what is granted is then what all that runs is held to.
func (m *model) settle() {
	for i := 0; i < 200 && m.err == nil && m.step(); i++ {
	}
	lost := slices.ContainsFunc(m.o.Containers, func(c Container) bool { return c.State == Unknown })
	if m.err == nil && len(m.ops) == 0 && m.wake.IsZero() && !lost && !Ending(m.pod, &m.prev, &m.o) && Resizing(m.pod, &m.o) {
		m.fail("a resize does not come about")
	}
	if m.err == nil && len(m.ops) == 0 && !lost && spent(m.pod, &m.prev, &m.o) && !podutil.Terminal(m.prev.Phase) {
		m.fail("the pod is %s although its work is done", m.prev.Phase)
	}
}

// delete is a user's deletion; a later one can only shorten the grace period.
func (m *model) delete(grace int64) {
	p := m.pod.DeepCopy()
	if old := p.DeletionGracePeriodSeconds; old != nil && *old <= grace {
		return
	}
	m.say("deleted, with a grace period of %ds", grace)
	at := metav1.NewTime(m.now.Add(time.Duration(grace) * time.Second))
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	m.pod = p
	m.reconcile()
}

// anyRun is one of the running containers.
func (m *model) anyRun() *Container {
	var all []*Container
	for i := range m.o.Containers {
		if m.o.Containers[i].State == Running {
			all = append(all, &m.o.Containers[i])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[m.rng.IntN(len(all))]
}

// flip has a probe come to a conclusion.
func (m *model) flip() {
	run := m.anyRun()
	if run == nil {
		return
	}
	spec := Spec(m.pod, run.Name)
	pr := m.o.Probes[run.ID]
	good := m.rng.IntN(4) > 0
	switch {
	case spec.StartupProbe != nil && pr.Started == nil:
		pr.Started = &good
	case spec.ReadinessProbe != nil && m.rng.IntN(2) == 0:
		pr.Ready = &good
	case spec.LivenessProbe != nil:
		pr.Live = &good
	}
	probes := map[string]Probe{}
	for id, p := range m.o.Probes {
		probes[id] = p
	}
	probes[run.ID] = pr
	m.o.Probes = probes
	m.say("probes of %s conclude: %v", run.ID, good)
}

// checkStatus checks what must hold between two statuses that follow each other.
func (m *model) checkStatus(old, st *v1.PodStatus) {
	pairs := [][2][]v1.ContainerStatus{
		{old.InitContainerStatuses, st.InitContainerStatuses},
		{old.ContainerStatuses, st.ContainerStatuses},
		{old.EphemeralContainerStatuses, st.EphemeralContainerStatuses},
	}
	for _, pair := range pairs {
		for i := range pair[1] {
			s := &pair[1][i]
			if before := find(pair[0], s.Name); before != nil && before.RestartCount > s.RestartCount {
				m.fail("the restart count of %s went from %d to %d", s.Name, before.RestartCount, s.RestartCount)
			}
			states := 0
			for _, set := range []bool{s.State.Waiting != nil, s.State.Running != nil, s.State.Terminated != nil} {
				if set {
					states++
				}
			}
			if states != 1 {
				m.fail("container %s is in %d states", s.Name, states)
			}
			if s.Ready && s.State.Running == nil && initContainer(m.pod, s.Name) == nil {
				m.fail("container %s is ready but does not run", s.Name)
			}
		}
	}
	ready, containers := condition(st.Conditions, v1.PodReady), condition(st.Conditions, v1.ContainersReady)
	if ready != nil && ready.Status == v1.ConditionTrue && containers.Status != v1.ConditionTrue {
		m.fail("the pod is ready but its containers are not")
	}
	if c := condition(old.Conditions, v1.AllContainersRestarting); c != nil && c.Status == v1.ConditionTrue &&
		podutil.Terminal(st.Phase) && st.Reason != DeadlineExceeded && !Ending(m.pod, old, &m.o) {
		m.fail("the pod is %s while all its containers are being restarted", st.Phase)
	}
	if old.StartTime != nil && !old.StartTime.Equal(st.StartTime) {
		m.fail("the start time changed")
	}
}

// checkRest checks, one time of eight, that the status comes to rest as long as nothing happens: it costs more than
// all the rest of a history.
func (m *model) checkRest() {
	if m.reconciles++; m.reconciles%8 != 0 {
		return
	}
	second := Status(m.pod, &m.prev, &m.o)
	if third := Status(m.pod, &second, &m.o); !equality.Semantic.DeepEqual(&second, &third) {
		m.fail("the status does not come to rest: %+v\nthen %+v", second, third)
	}
}

// checkOrder checks that a container starts in its turn: after all init containers before it have done their
// part in this sandbox.
func (m *model) checkOrder(c *v1.Container) {
	if slices.ContainsFunc(m.pod.Spec.EphemeralContainers, func(e v1.EphemeralContainer) bool { return e.Name == c.Name }) {
		return
	}
	begun := m.o.begun(m.pod)
	for i := range m.pod.Spec.InitContainers {
		before := &m.pod.Spec.InitContainers[i]
		if before.Name == c.Name {
			if begun && !podutil.IsSidecar(c) {
				m.fail("init container %s starts after the containers did", c.Name)
			}
			return
		}
		run := m.o.current(before.Name)
		switch {
		case begun:
		case run == nil && podutil.IsSidecar(before) && m.logs[before.Name] > 0:
			// It was there, and is on its way back.
		case run == nil:
			m.fail("%s starts before init container %s was made", c.Name, before.Name)
		case podutil.IsSidecar(before) && initContainer(m.pod, c.Name) == nil && before == &m.pod.Spec.InitContainers[len(m.pod.Spec.InitContainers)-1] && run.State != Running:
			m.fail("%s starts while sidecar %s, just before it, does not run", c.Name, before.Name)
		case !podutil.IsSidecar(before) && (run.State != Exited || run.ExitCode != 0):
			m.fail("%s starts before init container %s has done its part", c.Name, before.Name)
		}
	}
}

// checkOnce checks that what may not run again does not: an end that nothing restarts is for good, whatever the agent
// or the machine went through since.
func (m *model) checkOnce(c *v1.Container) {
	if m.replaced || len(c.RestartPolicyRules) > 0 || c.RestartPolicy != nil || m.restartsAll() || !slices.ContainsFunc(m.pod.Spec.Containers, func(o v1.Container) bool { return o.Name == c.Name }) {
		return
	}
	switch started := m.logs[c.Name] > 0; {
	case started && m.pod.Spec.RestartPolicy == v1.RestartPolicyNever:
		m.fail("%s is started again in a pod that restarts nothing", c.Name)
	case m.done[c.Name] && m.pod.Spec.RestartPolicy == v1.RestartPolicyOnFailure:
		m.fail("%s is started again though it has done its work", c.Name)
	}
}

// restartsAll reports whether an exit of one container can restart all.
func (m *model) restartsAll() bool {
	return slices.ContainsFunc(slices.Concat(m.pod.Spec.Containers, m.pod.Spec.InitContainers), func(c v1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
			return r.Action == v1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// checkStop checks that sidecars outlive what they serve, unless the grace period is over.
func (m *model) checkStop(run *Container, k *Kill) {
	spec := initContainer(m.pod, run.Name)
	if spec == nil || !podutil.IsSidecar(spec) || k.Stop.Busy {
		return
	}
	pl := &planner{pod: m.pod, status: &m.prev, o: &m.o}
	if m.now.Before(k.Since.Add(time.Duration(min(k.Grace, pl.grace())) * time.Second)) {
		for _, c := range m.pod.Spec.Containers {
			if last := m.o.newest(c.Name); last != nil && last.State == Running {
				m.fail("sidecar %s is stopped before container %s has ended", run.Name, c.Name)
			}
		}
	}
}
