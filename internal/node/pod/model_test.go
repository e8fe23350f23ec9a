package pod

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// model is a node with one Pod and a scripted runtime: it carries plans out, with delays, failures and crashes
// drawn from its random source, and checks what must always hold.
type model struct {
	rng  *rand.Rand
	now  time.Time
	pod  *v1.Pod
	prev v1.PodStatus // the agent's memory
	api  v1.PodStatus // what the API was told last
	o    Observed
	// ops are the pieces of work under way; those of an agent that was killed may still happen, unheard.
	ops    []*op
	wake   time.Time
	nextID int
	life   int // counts the agent's lives
	trace  []string
	loud   bool
	// failing is how likely, in percent, a piece of work fails.
	failing int
	err     error
	// logs counts the starts of each container by the logs they left.
	logs map[string]int32
	// done are the containers that ended well by themselves, replaced is that one was made again.
	done     map[string]bool
	replaced bool
	// reconciles counts how often the worker was woken.
	reconciles int
}

type op struct {
	at   time.Time
	life int
	// happen is what it does to the runtime, tell what the agent learns of it.
	happen func()
	tell   func()
}

func newModel(seed uint64, loud bool) *model {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := &model{rng: rng, now: time.Unix(1_000_000, 0), loud: loud, logs: map[string]int32{}, done: map[string]bool{}}
	if rng.IntN(3) == 0 {
		m.failing = rng.IntN(40)
	}
	m.pod = randomPod(rng)
	m.forget()
	return m
}

// forget is what the death of the agent does to its memory.
func (m *model) forget() {
	m.life++
	// What was under way comes to its end without the agent, or at some later time, or never.
	for _, op := range m.ops {
		switch m.rng.IntN(3) {
		case 0:
			op.at = m.now
		case 1:
			op.happen = nil
		}
	}
	m.prev = *m.api.DeepCopy()
	m.pod.Status = m.api
	m.o.Work = Work{
		Pulls: map[string]*Pull{}, Starts: map[string]*Start{}, Hooks: map[string]Hook{}, Kills: map[string]*Kill{},
		Removals: map[string]*Step{}, Sandboxes: map[string]*Step{}, Warned: map[string]bool{},
	}
	m.o.Orders.Resumed = m.pod.DeletionTimestamp != nil
	m.o.Probes = map[string]Probe{}
	m.o.Orders.Evict = nil
}

func randomPod(rng *rand.Rand) *v1.Pod {
	policies := []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}
	grace := int64(rng.IntN(40))
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", Generation: 1},
		Spec:       v1.PodSpec{RestartPolicy: policies[rng.IntN(3)], TerminationGracePeriodSeconds: &grace},
	}
	if rng.IntN(8) == 0 {
		p.Spec.ActiveDeadlineSeconds = new(int64)
		*p.Spec.ActiveDeadlineSeconds = int64(1 + rng.IntN(300))
	}
	resources := rng.IntN(3) == 0
	sized := func(c *v1.Container, restarts bool) {
		if !resources {
			return // sums of resources are most of what a status costs
		}
		resizeTo(c, rng)
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			if restarts && p.Spec.RestartPolicy != v1.RestartPolicyNever && rng.IntN(4) == 0 {
				c.ResizePolicy = append(c.ResizePolicy, v1.ContainerResizePolicy{ResourceName: name, RestartPolicy: v1.RestartContainer})
			}
		}
	}
	always := v1.ContainerRestartPolicyAlways
	for i := range rng.IntN(4) {
		c := v1.Container{Name: fmt.Sprintf("i%d", i), Image: "a"}
		if rng.IntN(2) == 0 {
			c.RestartPolicy = &always
			randomProbes(rng, &c)
		}
		sized(&c, c.RestartPolicy != nil)
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for i := range 1 + rng.IntN(3) {
		c := v1.Container{Name: fmt.Sprintf("c%d", i), Image: "a"}
		randomProbes(rng, &c)
		randomRules(rng, &c)
		sized(&c, c.RestartPolicy == nil)
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

// resizeTo gives a container other resources, some of the time none.
func resizeTo(c *v1.Container, rng *rand.Rand) {
	list := func(low int) v1.ResourceList {
		return v1.ResourceList{
			v1.ResourceCPU:    *resource.NewMilliQuantity(int64(low+rng.IntN(3)), resource.DecimalSI),
			v1.ResourceMemory: *resource.NewQuantity(int64(low+rng.IntN(3)), resource.BinarySI),
		}
	}
	c.Resources = v1.ResourceRequirements{Requests: list(100), Limits: list(200)}
}

func randomProbes(rng *rand.Rand, c *v1.Container) {
	for _, probe := range []**v1.Probe{&c.StartupProbe, &c.ReadinessProbe, &c.LivenessProbe} {
		if rng.IntN(4) == 0 {
			*probe = &v1.Probe{}
		}
	}
	if rng.IntN(4) == 0 {
		c.Lifecycle = &v1.Lifecycle{}
		if rng.IntN(2) == 0 {
			c.Lifecycle.PostStart = &v1.LifecycleHandler{}
		}
		if rng.IntN(2) == 0 {
			c.Lifecycle.PreStop = &v1.LifecycleHandler{}
		}
	}
}

func randomRules(rng *rand.Rand, c *v1.Container) {
	if rng.IntN(5) > 0 {
		return
	}
	policies := []v1.ContainerRestartPolicy{
		v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyOnFailure, v1.ContainerRestartPolicyNever,
	}
	c.RestartPolicy = &policies[rng.IntN(3)]
	actions := []v1.ContainerRestartRuleAction{v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers}
	c.RestartPolicyRules = []v1.ContainerRestartRule{{
		Action:    actions[rng.IntN(2)],
		ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
}

func (m *model) say(format string, args ...any) {
	if m.loud {
		m.trace = append(m.trace, fmt.Sprintf("%8s ", m.now.Sub(time.Unix(1_000_000, 0)))+fmt.Sprintf(format, args...))
	}
}

func (m *model) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
		m.say("VIOLATED: %v", m.err)
	}
}

func (m *model) unlucky() bool { return m.rng.IntN(100) < m.failing }

// begin puts a piece of work under way.
func (m *model) begin(happen, tell func()) {
	delay := time.Duration(m.rng.IntN(1500)) * time.Millisecond
	m.ops = append(m.ops, &op{at: m.now.Add(delay), life: m.life, happen: happen, tell: tell})
}

// step does the next piece of work that is due, or lets time go by to it, and reports whether there is any.
func (m *model) step() bool {
	next := m.wake
	var first *op
	for _, op := range m.ops {
		if first == nil || op.at.Before(first.at) {
			first = op
		}
	}
	if first != nil && (next.IsZero() || !next.Before(first.at)) {
		if first.at.After(m.now) {
			m.now = first.at
		}
		m.ops = slices.DeleteFunc(m.ops, func(o *op) bool { return o == first })
		if first.happen != nil {
			first.happen()
		}
		if first.life == m.life && first.tell != nil {
			first.tell()
		}
		m.reconcile()
		return true
	}
	if next.IsZero() {
		return false
	}
	if next.After(m.now) {
		m.now = next
	}
	m.reconcile()
	return true
}

// reconcile is what the worker does each time it is woken.
func (m *model) reconcile() {
	for range 20 {
		m.o.Now = m.now
		old := m.prev
		m.prev = Status(m.pod, &m.prev, &m.o)
		m.checkStatus(&old, &m.prev)
		m.checkRest()
		m.publish()
		again := false
		m.wake = time.Time{}
		for _, a := range Plan(m.pod, &m.prev, &m.o) {
			again = m.carry(a) || again
		}
		if !again || m.err != nil {
			return
		}
	}
	m.fail("the plan does not come to rest")
}

// publish is what the API is told; it is written at once.
func (m *model) publish() {
	runs := !m.o.Quiet()
	st := Publish(m.pod, &m.api, &m.prev, runs, metav1.NewTime(m.now))
	if podutil.Terminal(m.api.Phase) && st.Phase != m.api.Phase {
		m.fail("the phase went from %s to %s", m.api.Phase, st.Phase)
	}
	if podutil.Terminal(st.Phase) && !podutil.Terminal(m.api.Phase) && m.anyRunning() {
		m.fail("the phase is %s while a container runs", st.Phase)
	}
	m.api = st
	m.pod.Status = st
}

func (m *model) anyRunning() bool {
	return slices.ContainsFunc(m.o.Containers, func(c Container) bool { return c.State == Running })
}

func (m *model) byID(id string) *Container {
	for i := range m.o.Containers {
		if m.o.Containers[i].ID == id {
			return &m.o.Containers[i]
		}
	}
	return nil
}

func (m *model) failedStep() Step {
	return Step{Reason: "Failed", Failed: m.now, Retry: m.now.Add(10 * time.Second)}
}

// carry carries out one action as the worker does.
func (m *model) carry(a Action) (again bool) {
	w := &m.o.Work
	m.sayAction(a)
	switch a := a.(type) {
	case Wake:
		m.wake = a.At
	case SetUpVolumes:
		m.check(!w.Volumes.Busy, "volumes set up twice at once")
		w.Volumes = Step{Busy: true}
		bad := m.unlucky()
		m.begin(nil, func() {
			w.Volumes = Step{Done: true}
			if bad {
				w.Volumes = m.failedStep()
			}
		})
	case PullImage:
		w.Pulls[a.Container.Name] = &Pull{Step: Step{Busy: true}, Image: a.Container.Image}
		bad, c := m.unlucky(), a.Container
		m.begin(nil, func() {
			got := &Pull{Step: Step{Done: true}, Image: c.Image, Ref: "ref"}
			if bad {
				got.Step = m.failedStep()
			}
			w.Pulls[c.Name] = got
		})
	case CreateSandbox:
		m.createSandbox(a)
	case StartContainer:
		m.startContainer(a)
	case ResizePod:
		m.resizePod(a)
	case BeginKill:
		if strings.Contains(a.Message, "resize") {
			asks := func(p v1.ContainerResizePolicy) bool { return p.RestartPolicy == v1.RestartContainer }
			m.check(a.Container != nil && slices.ContainsFunc(a.Container.ResizePolicy, asks), a.Name+" is restarted for a resize it did not ask to be")
		}
		w.Kills[a.ID] = &Kill{Since: m.now, Grace: a.Grace, Hook: a.Hook, Restart: a.Restart, Again: a.Again}
		if a.Hook {
			id := a.ID
			m.begin(nil, func() {
				if k := w.Kills[id]; k != nil {
					k.Hook = false
				}
			})
		}
		return true
	case StopContainer:
		m.stopContainer(a)
	case StopSandbox:
		w.Sandboxes[a.ID] = &Step{Busy: true}
		m.begin(func() { m.endSandbox(a.ID) }, func() { delete(w.Sandboxes, a.ID) })
	case RemoveContainer:
		m.removeContainer(a)
	case RemoveSandbox:
		w.Sandboxes[a.ID] = &Step{Busy: true}
		m.begin(func() { m.removeSandbox(a.ID) }, func() { delete(w.Sandboxes, a.ID) })
	case WarnBackOff:
		w.Warned[a.ID] = true
	case TearDown:
		m.tearDown(a)
	}
	return false
}

func (m *model) sayAction(a Action) {
	if !m.loud {
		return
	}
	switch a := a.(type) {
	case Wake:
	case PullImage:
		m.say("  PullImage %s", a.Container.Name)
	case StartContainer:
		m.say("  StartContainer %s attempt %d, id %q", a.Container.Name, a.Attempt, a.ID)
	case BeginKill:
		m.say("  BeginKill %s grace %d hook %v: %s", a.ID, a.Grace, a.Hook, a.Message)
	case WarnBackOff:
		m.say("  WarnBackOff %s", a.ID)
	default:
		m.say("  %T %+v", a, a)
	}
}

func (m *model) check(ok bool, words string) {
	if !ok {
		m.fail("%s", words)
	}
}

// resizePod resizes what it can; what the agent does not hear of is not noted, and done again.
func (m *model) resizePod(a ResizePod) {
	w := &m.o.Work
	m.check(!w.Resize.Busy, "a pod is resized twice at once")
	w.Resize.Busy = true
	for _, c := range a.Containers {
		run := m.byID(c.ID)
		m.check(run != nil && run.State == Running, "a container is resized that does not run")
		m.check(c.From != c.To, "a container is resized to what it is")
	}
	p, bad := m.pod, m.unlucky()
	m.begin(nil, func() {
		if bad {
			w.Resize = m.failedStep()
			return
		}
		w.Resize = Step{}
		held := AllocationOf(p)
		m.o.Cgroup = &held
		for _, c := range a.Containers {
			if run := m.byID(c.ID); run != nil {
				granted := AllocationFor(p, c.Container)
				run.Granted = &granted
			}
		}
	})
}

func (m *model) createSandbox(a CreateSandbox) {
	w := &m.o.Work
	m.check(!Ending(m.pod, &m.prev, &m.o), "a sandbox is made for a pod that ends")
	m.check(!m.anyRunning(), "a sandbox is made while a container runs in another")
	m.check(!slices.ContainsFunc(m.o.Sandboxes, func(s Sandbox) bool { return s.Ready }), "a second sandbox is made")
	w.Sandbox = Step{Busy: true}
	bad, held := m.unlucky(), AllocationOf(m.pod)
	m.begin(func() {
		// The runtime's creates are keyed by the attempt: a create that was not heard of is found again.
		if !bad && !slices.ContainsFunc(m.o.Sandboxes, func(s Sandbox) bool { return s.Attempt == a.Attempt }) {
			m.nextID++
			m.o.Sandboxes = append(m.o.Sandboxes, Sandbox{
				ID: fmt.Sprintf("s%d", m.nextID), Attempt: a.Attempt, Ready: true, HasNetwork: true, IPs: []string{"10.0.0.1"},
			})
			slices.SortFunc(m.o.Sandboxes, func(a, b Sandbox) int { return cmp.Compare(b.Attempt, a.Attempt) })
		}
	}, func() {
		w.Sandbox = Step{}
		if bad {
			w.Sandbox = m.failedStep()
			return
		}
		m.o.Cgroup = &held
	})
}

func (m *model) startContainer(a StartContainer) {
	w, c := &m.o.Work, a.Container
	m.check(!Ending(m.pod, &m.prev, &m.o), "container "+c.Name+" is started in a pod that ends")
	m.checkOrder(c)
	m.checkOnce(c)
	if k := m.o.newest(c.Name); k != nil && a.ID == "" {
		m.check(k.State != Running, "container "+c.Name+" is started while it runs")
	}
	if s := w.Starts[c.Name]; s != nil {
		m.check(!s.Busy, "container "+c.Name+" is started twice at once")
	}
	w.Starts[c.Name] = &Start{Step: Step{Busy: true}, Hash: Hash(c)}
	delete(w.Pulls, c.Name)
	attempt := a.Attempt
	if attempt == 0 {
		attempt = m.logs[c.Name]
	}
	id, made := a.ID, a.ID != ""
	granted := AllocationFor(m.pod, c)
	failCreate, failStart, failHook := m.unlucky(), m.unlucky(), m.unlucky()
	if id == "" {
		m.nextID++
		id = fmt.Sprintf("%s-%d", c.Name, m.nextID)
	}
	create := func() {
		if failCreate || made || m.byID(id) != nil {
			return
		}
		// The runtime's creates are keyed by the attempt: one that was not heard of is found again.
		for i := range m.o.Containers {
			if c2 := &m.o.Containers[i]; c2.Name == c.Name && c2.Attempt == attempt && c2.SandboxID == a.Sandbox.ID {
				id = c2.ID
				return
			}
		}
		if !m.alive(a.Sandbox.ID) {
			failCreate = true
			return
		}
		m.o.Containers = append([]Container{{
			ID: id, Name: c.Name, SandboxID: a.Sandbox.ID, Attempt: attempt, CreatedAt: m.now, Hash: Hash(c),
			Backoff: a.Backoff, BackoffKey: a.BackoffKey, Image: c.Image, Granted: &granted,
		}}, m.o.Containers...)
	}
	start := func() {
		run := m.byID(id)
		if failCreate || failStart || run == nil || run.State != Created || !m.alive(run.SandboxID) {
			return
		}
		for i := range m.o.Containers {
			if other := &m.o.Containers[i]; other.Name == c.Name && other.State == Running {
				m.fail("two containers %s run at once", c.Name)
			}
		}
		run.State, run.StartedAt = Running, m.now
		m.logs[c.Name] = max(m.logs[c.Name], run.Attempt+1)
		m.say("  %s runs, attempt %d", id, run.Attempt)
	}
	hook := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
	m.begin(create, nil)
	created := m.ops[len(m.ops)-1].at
	m.begin(start, func() {
		run := m.byID(id)
		ok := run != nil && run.State != Created
		if !ok {
			w.Starts[c.Name] = &Start{Step: m.failedStep(), Hash: Hash(c)}
			return
		}
		delete(w.Starts, c.Name)
		if hook && run.State == Running {
			w.Hooks[id] = HookRuns
			m.begin(nil, func() {
				if w.Hooks[id] == 0 {
					return
				}
				delete(w.Hooks, id)
				if failHook {
					w.Hooks[id] = HookFailed
				}
			})
		}
	})
	last := m.ops[len(m.ops)-1]
	if last.at.Before(created) {
		last.at = created.Add(time.Millisecond)
	}
}

// alive reports whether a sandbox runs: nothing is made or started in another.
func (m *model) alive(sandbox string) bool {
	return slices.ContainsFunc(m.o.Sandboxes, func(s Sandbox) bool { return s.ID == sandbox && s.Ready })
}

func (m *model) stopContainer(a StopContainer) {
	w := &m.o.Work
	k := w.Kills[a.ID]
	m.check(k != nil, "a container is stopped whose end was not begun")
	m.check(a.Grace >= leastGrace, "a container is stopped with too little grace")
	run := m.byID(a.ID)
	if run != nil && Ending(m.pod, &m.prev, &m.o) {
		m.checkStop(run, k)
	}
	k.Hook, k.Stop, k.Until = false, Step{Busy: true}, m.now.Add(time.Duration(a.Grace)*time.Second)
	until := k.Until
	wait := time.Duration(m.rng.IntN(int(a.Grace)+1)) * time.Second
	o := &op{at: m.now.Add(wait), life: m.life}
	o.happen = func() { m.exit(a.ID, []int32{0, 143, 137}[m.rng.IntN(3)]) }
	o.tell = func() {
		if k := w.Kills[a.ID]; k != nil && k.Until.Equal(until) {
			k.Stop = Step{Done: true}
		}
	}
	m.ops = append(m.ops, o)
}

// exit ends a container.
func (m *model) exit(id string, code int32) {
	run := m.byID(id)
	if run == nil || (run.State != Running && run.State != Unknown) {
		return
	}
	if run.State == Unknown && m.rng.IntN(2) == 0 {
		return // nobody will ever know
	}
	run.State, run.FinishedAt, run.ExitCode, run.Reason = Exited, m.now, code, "Error"
	if code == 0 {
		run.Reason = "Completed"
	}
	m.say("  %s ends with %d", id, code)
}

func (m *model) endSandbox(id string) {
	for i := range m.o.Sandboxes {
		if s := &m.o.Sandboxes[i]; s.ID == id {
			s.Ready, s.IPs = false, nil
		}
	}
	for i := range m.o.Containers {
		if c := &m.o.Containers[i]; c.SandboxID == id {
			m.exit(c.ID, 137)
		}
	}
}

func (m *model) removeContainer(a RemoveContainer) {
	w := &m.o.Work
	if run := m.byID(a.ID); run != nil {
		m.check(run.State != Running, "a running container is removed")
	}
	w.Removals[a.ID] = &Step{Busy: true}
	m.begin(func() {
		m.o.Containers = slices.DeleteFunc(slices.Clone(m.o.Containers), func(c Container) bool { return c.ID == a.ID })
	}, func() { delete(w.Removals, a.ID) })
}

func (m *model) removeSandbox(id string) {
	m.endSandbox(id)
	m.o.Sandboxes = slices.DeleteFunc(slices.Clone(m.o.Sandboxes), func(s Sandbox) bool { return s.ID == id })
	m.o.Containers = slices.DeleteFunc(slices.Clone(m.o.Containers), func(c Container) bool { return c.SandboxID == id })
}

func (m *model) tearDown(a TearDown) {
	w := &m.o.Work
	m.check(m.o.Quiet(), "a pod is torn down while something of it runs")
	w.TearDown = Step{Busy: true}
	bad := m.unlucky()
	m.begin(func() {
		if a.Clear && !bad {
			m.o.Containers, m.o.Sandboxes = nil, nil
		}
	}, func() {
		w.TearDown = Step{Done: true}
		w.Cleared = w.Cleared || a.Clear
		if bad {
			w.TearDown, w.Cleared = m.failedStep(), false
		}
	})
}
