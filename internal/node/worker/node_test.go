package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/retry"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/probe"
	"podium.dev/podium/internal/node/pull"
	"podium.dev/podium/internal/node/qos"
)

// node is a node under test: everything but the Manager is a fake.
type node struct {
	t       *testing.T
	clock   *clocktesting.FakeClock
	runtime *fakeRuntime
	client  *fake.Clientset
	m       *Manager
	stop    func()

	build   func(container.Input) error
	volumes *fakeVolumes
	probes  *fakeProbes
	hooks   *fakeHooks
	cfg     Config
	logs    string

	mu     sync.Mutex
	events []string
}

func newNode(t *testing.T, change ...func(*Config)) *node {
	n := &node{
		t:       t,
		clock:   clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0)),
		client:  fake.NewClientset(),
		volumes: &fakeVolumes{}, probes: &fakeProbes{}, hooks: &fakeHooks{},
	}
	n.client.PrependReactor("*", "pods", n.versioned())
	n.runtime = newFakeRuntime(n.clock)
	n.logs = t.TempDir()
	n.cfg = Config{
		Runtime: n.runtime, ImageService: n.runtime, Client: n.client, Recorder: n,
		Images:  pull.New(pull.Config{Images: n.runtime, Recorder: n, Clock: n.clock}),
		Builder: n, Volumes: n.volumes, Probes: n.probes, Hooks: n.hooks, Cgroups: fakeCgroups{n.runtime},
		HostIPs: func() []string { return []string{"192.0.2.1"} },
		Sources: []string{SourceAPI}, Clock: n.clock,
	}
	for _, f := range change {
		f(&n.cfg)
	}
	n.up()
	t.Cleanup(func() { n.stop() })
	return n
}

// versioned makes the fake client keep resource versions, refuse writes of older ones, and write nothing but the
// status to pods/status, as the API server does.
func (n *node) versioned() clienttesting.ReactionFunc {
	var mu sync.Mutex
	version := 100
	pods := v1.SchemeGroupVersion.WithResource("pods")
	return func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		version++
		switch a := action.(type) {
		case clienttesting.CreateActionImpl:
			a.GetObject().(*v1.Pod).ResourceVersion = strconv.Itoa(version)
			return false, nil, nil
		case clienttesting.UpdateActionImpl:
			p := a.GetObject().(*v1.Pod).DeepCopy()
			obj, err := n.client.Tracker().Get(pods, p.Namespace, p.Name)
			if err != nil {
				return true, nil, err
			}
			old := obj.(*v1.Pod)
			if p.ResourceVersion != old.ResourceVersion {
				return true, nil, apierrors.NewConflict(pods.GroupResource(), p.Name, errors.New("old version"))
			}
			if a.GetSubresource() == "status" {
				status := p.Status
				p = old.DeepCopy()
				p.Status = status
			}
			p.ResourceVersion = strconv.Itoa(version)
			return true, p, n.client.Tracker().Update(pods, p, p.Namespace)
		}
		return false, nil, nil
	}
}

// up starts a Manager on what is there, as the daemon does.
func (n *node) up() { n.start(func(*Manager) {}) }

// start is up with inputs that come before the API has spoken.
func (n *node) start(first func(*Manager)) {
	ctx, cancel := context.WithCancel(n.t.Context())
	n.m = New(n.cfg)
	n.probes.changed = n.m.Wake
	var wait sync.WaitGroup
	wait.Go(func() { _ = n.m.Run(ctx) })
	if n.cfg.Client != nil {
		w, err := n.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			n.t.Fatal(err)
		}
		list, err := n.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			n.t.Fatal(err)
		}
		var pods []*v1.Pod
		for i := range list.Items {
			pods = append(pods, &list.Items[i])
		}
		first(n.m)
		n.m.SetPods(SourceAPI, pods)
		m := n.m
		wait.Go(func() { feed(ctx, m, w) })
	}
	n.stop = func() { cancel(); wait.Wait() }
}

// restart kills the Manager and starts another.
func (n *node) restart() {
	n.stop()
	n.up()
}

func feed(ctx context.Context, m *Manager, w watch.Interface) {
	defer w.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return
			}
			p := e.Object.(*v1.Pod)
			if e.Type == watch.Deleted {
				m.DeletePod(SourceAPI, p)
			} else {
				m.UpdatePod(SourceAPI, p)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Sandbox and Container make the node its own Builder.
func (n *node) Sandbox(p *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	parent, err := n.cfg.Cgroups.Ensure(p)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxConfig{
		Linux:    &runtimeapi.LinuxPodSandboxConfig{CgroupParent: parent},
		Metadata: &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID), Attempt: attempt},
		Labels:   container.PodLabels(p),
	}, nil
}

func (n *node) Container(_ context.Context, in container.Input) (*runtimeapi.ContainerConfig, error) {
	n.mu.Lock()
	build := n.build
	n.mu.Unlock()
	if build != nil {
		if err := build(in); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: in.Container.Name, Attempt: in.Attempt},
		Image:       &runtimeapi.ImageSpec{Image: in.Container.Image},
		Labels:      container.ContainerLabels(in.Pod, in.Container.Name),
		Annotations: container.ContainerAnnotations(in.Pod, in.Container, in.Attempt),
	}, nil
}

func (n *node) Resources(p *v1.Pod, c *v1.Container) *runtimeapi.LinuxContainerResources {
	cpu, memory := qos.Limit(p, c, v1.ResourceCPU), qos.Limit(p, c, v1.ResourceMemory)
	return &runtimeapi.LinuxContainerResources{
		CpuShares: qos.Shares(c.Resources.Requests.Cpu().MilliValue()), CpuPeriod: qos.DefaultPeriod,
		CpuQuota: qos.Quota(cpu.MilliValue(), qos.DefaultPeriod), MemoryLimitInBytes: memory.Value(),
	}
}

func (n *node) PodLogDir(p *v1.Pod) string {
	return filepath.Join(n.logs, p.Namespace+"_"+p.Name+"_"+string(p.UID))
}

func (n *node) NextAttempt(*v1.Pod, string) uint32 { return 0 }

func (n *node) LinkLog(*runtimeapi.PodSandboxConfig, *runtimeapi.ContainerConfig, string) error {
	return nil
}

func (n *node) UnlinkLog(map[string]string, string) error { return nil }
func (n *node) SweepLogLinks() error                      { return nil }

// Event, Eventf and AnnotatedEventf make the node its own recorder.
func (n *node) Event(object runtime.Object, eventType, reason, message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	path := ""
	if ref, ok := object.(*v1.ObjectReference); ok && ref.FieldPath != "" {
		path = " " + ref.FieldPath
	}
	n.events = append(n.events, eventType+" "+reason+path+": "+message)
}

func (n *node) Eventf(object runtime.Object, eventType, reason, format string, args ...any) {
	n.Event(object, eventType, reason, fmt.Sprintf(format, args...))
}

func (n *node) AnnotatedEventf(object runtime.Object, _ map[string]string, eventType, reason, format string, args ...any) {
	n.Eventf(object, eventType, reason, format, args...)
}

func (n *node) eventList() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

// create creates a Pod in the API.
func (n *node) create(p *v1.Pod) *v1.Pod {
	n.t.Helper()
	got, err := n.client.CoreV1().Pods(p.Namespace).Create(n.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

// delete asks for a Pod's deletion as the API server does for a Pod that is on a node.
func (n *node) delete(name string, grace int64) {
	n.t.Helper()
	at := metav1.NewTime(n.clock.Now().Add(time.Duration(grace) * time.Second))
	n.change(name, func(p *v1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace })
}

// change changes a Pod in the API.
func (n *node) change(name string, change func(*v1.Pod)) {
	n.t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		p := n.get(name)
		change(p)
		_, err := n.client.CoreV1().Pods("ns").Update(n.t.Context(), p, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// get reads a Pod of the API, nil when there is none.
func (n *node) get(name string) *v1.Pod {
	p, err := n.client.CoreV1().Pods("ns").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

// eventually waits until ok returns "", and fails with its last answer when it does not.
func (n *node) eventually(ok func() string) {
	n.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		said := ok()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s\nevents:\n%s\ncalls:\n%s", said, strings.Join(n.eventList(), "\n"), strings.Join(n.runtime.callList(), "\n"))
		}
		<-time.After(time.Millisecond)
	}
}

// becomes waits until the Pod's status meets the check.
func (n *node) becomes(name, what string, ok func(*v1.PodStatus) bool) {
	n.t.Helper()
	n.eventually(func() string {
		p := n.get(name)
		if p == nil {
			return "the pod is gone, before it was " + what
		}
		if !ok(&p.Status) {
			st, _ := json.MarshalIndent(p.Status, "", " ")
			return "the pod is not " + what + ": " + string(st)
		}
		return ""
	})
}

func (n *node) running(name string) {
	n.t.Helper()
	n.becomes(name, "running and ready", func(st *v1.PodStatus) bool { return st.Phase == v1.PodRunning && isTrue(st, v1.PodReady) })
}

func isTrue(st *v1.PodStatus, t v1.PodConditionType) bool {
	for _, c := range st.Conditions {
		if c.Type == t {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func (n *node) gone(name string) {
	n.t.Helper()
	n.eventually(func() string {
		if n.get(name) != nil {
			return "the pod is still there"
		}
		if !n.runtime.empty() {
			return "something is left in the runtime"
		}
		return ""
	})
}

// advance lets time go by once somebody waits for it.
func (n *node) advance(d time.Duration) {
	n.t.Helper()
	n.eventually(func() string {
		if !n.clock.HasWaiters() {
			return "nobody waits for time to go by"
		}
		return ""
	})
	n.clock.Step(d)
}

// pass lets time go by, a second at a time, until the Pod's status meets the check.
func (n *node) pass(name, what string, ok func(*v1.PodStatus) bool) {
	n.t.Helper()
	n.eventually(func() string {
		if p := n.get(name); p != nil && ok(&p.Status) {
			return ""
		}
		n.clock.Step(time.Second)
		return "the pod is not " + what
	})
}

// saw waits for an event.
func (n *node) saw(event string) {
	n.t.Helper()
	n.eventually(func() string {
		if slices.Contains(n.eventList(), event) {
			return ""
		}
		return "no event: " + event
	})
}

// verdictOf is a verdict for a reason.
func verdictOf(reason string) pod.Verdict { return pod.Verdict{Reason: reason, Message: "in a test"} }

// newPod is a Pod of one container that runs.
func newPod(change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: types.UID("uid-web"), Generation: 1},
		Spec: v1.PodSpec{
			RestartPolicy:                 v1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: ptr.To[int64](30),
			Containers:                    []v1.Container{{Name: "c", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent}},
		},
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func first0(st *v1.PodStatus) *v1.ContainerStatus {
	if len(st.ContainerStatuses) == 0 {
		return &v1.ContainerStatus{}
	}
	return &st.ContainerStatuses[0]
}

// fakeVolumes has volumes that fail as scripted.
type fakeVolumes struct {
	mu   sync.Mutex
	err  error
	ups  int
	torn map[types.UID]int
	// left are Pods that have a folder, whoever made it.
	left map[types.UID]bool
}

func (f *fakeVolumes) SetUp(context.Context, *v1.Pod) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ups++
	return f.err
}

func (f *fakeVolumes) Update(*v1.Pod) {}

func (f *fakeVolumes) Remove(ctx context.Context, uid types.UID) error { return f.TearDown(ctx, uid) }

func (f *fakeVolumes) TearDown(_ context.Context, uid types.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.torn == nil {
		f.torn = map[types.UID]int{}
	}
	f.torn[uid]++
	delete(f.left, uid)
	return nil
}

func (f *fakeVolumes) Pods() (uids []types.UID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for uid := range f.left {
		uids = append(uids, uid)
	}
	return uids, nil
}

func (f *fakeVolumes) script(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// fakeCgroups refuse a Pod less processor than one of its containers has, as the kernel does.
type fakeCgroups struct{ runtime *fakeRuntime }

func (c fakeCgroups) Ensure(p *v1.Pod) (string, error) {
	quota := qos.ForPod(p, qos.Settings{EnforceCPU: true, Period: qos.DefaultPeriod}).Quota
	if quota == nil || *quota <= 0 {
		return "/kubepods", nil
	}
	for _, had := range c.runtime.quotas(string(p.UID)) {
		if had > *quota {
			return "", fmt.Errorf("write cpu.cfs_quota_us: a container has %d, more than %d: invalid argument", had, *quota)
		}
	}
	return "/kubepods", nil
}

func (fakeCgroups) Grow(_, _ *v1.Pod) error { return nil }
func (fakeCgroups) Remove(types.UID) error  { return nil }

func (fakeCgroups) Pods() ([]types.UID, error) { return nil, nil }

// fakeProbes has outcomes as scripted.
type fakeProbes struct {
	mu       sync.Mutex
	changed  func(types.UID)
	targets  map[types.UID][]probe.Target
	outcomes map[string]probe.Outcome // by container ID
	removed  map[types.UID]bool
}

func (f *fakeProbes) Sync(p *v1.Pod, running []probe.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.targets == nil {
		f.targets, f.removed = map[types.UID][]probe.Target{}, map[types.UID]bool{}
	}
	f.targets[p.UID] = running
}

func (f *fakeProbes) Remove(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.targets, uid)
	if f.removed != nil {
		f.removed[uid] = true
	}
}

func (f *fakeProbes) Outcomes(uid types.UID) map[string]probe.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]probe.Outcome{}
	for _, t := range f.targets[uid] {
		if o, ok := f.outcomes[t.ID]; ok {
			out[t.ID] = o
		}
	}
	return out
}

// conclude has the probes of the running container of the name come to an outcome.
func (f *fakeProbes) conclude(uid types.UID, name string, o probe.Outcome) bool {
	f.mu.Lock()
	found := false
	for _, t := range f.targets[uid] {
		if t.Container == name {
			if f.outcomes == nil {
				f.outcomes = map[string]probe.Outcome{}
			}
			f.outcomes[t.ID] = o
			found = true
		}
	}
	changed := f.changed
	f.mu.Unlock()
	if found {
		changed(uid)
	}
	return found
}

// fakeHooks runs handlers as scripted.
type fakeHooks struct {
	mu  sync.Mutex
	run func(ctx context.Context, c *v1.Container, h *v1.LifecycleHandler) error
	ran []string
}

func (f *fakeHooks) Run(ctx context.Context, _ *v1.Pod, c *v1.Container, _, _ string, h *v1.LifecycleHandler) (string, error) {
	f.mu.Lock()
	kind := "postStart"
	if c.Lifecycle.PreStop == h {
		kind = "preStop"
	}
	f.ran = append(f.ran, kind+" "+c.Name)
	run := f.run
	f.mu.Unlock()
	if run == nil {
		return "", nil
	}
	return "the hook's words", run(ctx, c, h)
}

func (f *fakeHooks) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ran)
}
