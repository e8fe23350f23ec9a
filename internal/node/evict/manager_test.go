package evict

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	testingclock "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/node/pod"
)

// machine is a node with memory and a disk that Pods take from: it is the Source and has the Pods.
type machine struct {
	mu           sync.Mutex
	memory, disk int64 // free without any Pod
	subjects     map[types.UID]subject
	frozen       bool // evicted Pods do not end
	did          []string
	fail         error
}

func (m *machine) note(format string, args ...any) {
	m.did = append(m.did, fmt.Sprintf(format, args...))
}

// done returns what was done since it was last asked.
func (m *machine) done() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	did := strings.Join(m.did, "; ")
	m.did = nil
	return did
}

func (m *machine) Observe(context.Context, []Signal) (Observations, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	memory, disk := m.memory, m.disk
	for _, s := range m.subjects {
		memory, disk = memory-s.memory, disk-s.volume
	}
	if m.fail != nil {
		return nil, m.fail
	}
	return observe(memory, disk), nil
}

func (m *machine) Layout(context.Context) (Layout, error) { return Layout{}, nil }

func (m *machine) Group(p *v1.Pod) (stats.PodStats, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.subjects[p.UID].use(), true
}

func (m *machine) Storage(_ context.Context, p *v1.Pod) (stats.PodStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("measure %s", p.Name)
	return m.subjects[p.UID].use(), nil
}

func (m *machine) Containers(_ context.Context, p *v1.Pod) ([]stats.ContainerStats, error) {
	return m.subjects[p.UID].use().Containers, nil
}

func (m *machine) Forget([]*v1.Pod) {}

func (m *machine) Active() (pods []*v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.subjects {
		p := s.pod()
		p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}
		if s.logs > 0 { // stands for a limit of what it may keep
			p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: *resource.NewQuantity(s.logs-1, resource.DecimalSI)}
		}
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func (m *machine) Evict(uid types.UID, why pod.Verdict) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("evict %s in %ds, disruption %v", uid, *why.Grace, why.Disruption != "")
	end := make(chan struct{})
	if !m.frozen {
		delete(m.subjects, uid)
		close(end)
	}
	return end
}

func newManager(t *testing.T, m *machine, k *kubeletconfig.KubeletConfiguration) (*Manager, *testingclock.FakeClock, *record.FakeRecorder) {
	t.Helper()
	clock, events := testingclock.NewFakeClock(start), record.NewFakeRecorder(100)
	k.EvictionPressureTransitionPeriod = metav1.Duration{Duration: time.Minute}
	free := func(what string, by int64) func(context.Context) error {
		return func(context.Context) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.disk += by
			m.note("free %s", what)
			return nil
		}
	}
	e, err := New(Config{
		Settings: k, Source: m, Pods: m, FreeContainers: free("containers", 0), FreeImages: free("images", 50),
		OnChange: func() { m.mu.Lock(); defer m.mu.Unlock(); m.note("changed") },
		Recorder: events, Node: func() *v1.ObjectReference { return &v1.ObjectReference{Kind: "Node", Name: "n"} }, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, clock, events
}

func have(subjects ...subject) map[types.UID]subject {
	out := map[types.UID]subject{}
	for _, s := range subjects {
		out[types.UID(s.name)] = s
	}
	return out
}

// look has the manager look once.
func look(t *testing.T, e *Manager, now time.Time) (ends int) {
	t.Helper()
	list, _, err := e.look(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestOnePodAtATime(t *testing.T) {
	m := &machine{memory: 300, disk: 1000, subjects: have(subject{name: "a", memory: 120}, subject{name: "b", memory: 100}, subject{name: "critical", priority: 2e9, memory: 30})}
	e, clock, events := newManager(t, m, settings(map[string]string{"memory.available": "100"}, nil, nil, nil))
	look(t, e, clock.Now())
	if did := m.done(); did != "changed; evict a in 1s, disruption true" {
		t.Errorf("it did %q", did)
	}
	if got := <-events.Events; got != "Warning EvictionThresholdMet Attempting to reclaim memory" {
		t.Errorf("event %q", got)
	}
	if got := <-events.Events; !strings.HasPrefix(got, "Warning Evicted The node was low on resource: memory. Threshold quantity: 100, available: 50. Container c was using 120,") {
		t.Errorf("event %q", got)
	}
	if ends := look(t, e, clock.Now()); ends != 0 || m.done() != "" {
		t.Error("a second Pod went though the first was enough")
	}
	m.memory = 0
	look(t, e, clock.Now())
	look(t, e, clock.Now())
	if did := m.done(); did != "evict b in 1s, disruption true" {
		t.Errorf("it did %q", did)
	}
}

func TestFreeBeforeEvicting(t *testing.T) {
	m := &machine{memory: 1000, disk: 100, subjects: have(subject{name: "a", volume: 30})}
	e, clock, _ := newManager(t, m, settings(map[string]string{"nodefs.available": "100"}, nil, nil, nil))
	look(t, e, clock.Now())
	if did := m.done(); did != "changed; free containers; free images" {
		t.Errorf("it did %q", did)
	}
	m.disk -= 100
	look(t, e, clock.Now())
	if did := m.done(); did != "free containers; free images; measure a; evict a in 1s, disruption true" {
		t.Errorf("it did %q", did)
	}
}

func TestSoftThreshold(t *testing.T) {
	m := &machine{memory: 100, disk: 1000, subjects: have(subject{name: "a", memory: 50})}
	k := settings(nil, map[string]string{"memory.available": "80"}, map[string]string{"memory.available": "15s"}, nil)
	k.EvictionMaxPodGracePeriod = 7
	e, clock, _ := newManager(t, m, k)
	_, v, err := e.look(t.Context(), clock.Now())
	if err != nil || m.done() != "changed" || !v.Next.Equal(start.Add(15*time.Second)) {
		t.Errorf("next %v, %v", v.Next, err)
	}
	look(t, e, start.Add(15*time.Second))
	if did := m.done(); did != "evict a in 7s, disruption true" {
		t.Errorf("it did %q", did)
	}
	if got := fmt.Sprint(e.Conditions()); got != "[MemoryPressure]" {
		t.Errorf("conditions %s", got)
	}
	if v := e.Admit(subject{name: "late"}.pod(), nil); v == nil {
		t.Error("a Pod is taken in under pressure")
	}
	look(t, e, start.Add(75*time.Second))
	if did, got := m.done(), fmt.Sprint(e.Conditions()); did != "changed" || got != "[]" {
		t.Errorf("a minute later it did %q and has %s", did, got)
	}
}

// Only Pods that have a bound are measured, and those that exceed it go whatever the node has.
func TestOnlyLimitedPodsAreMeasured(t *testing.T) {
	m := &machine{memory: 1000, disk: 1000, subjects: have(subject{name: "bounded", logs: 10}, subject{name: "free", volume: 10}, subject{name: "static", priority: 2e9, logs: 10})}
	k := settings(map[string]string{"memory.available": "1"}, nil, nil, nil)
	e, clock, _ := newManager(t, m, k)
	look(t, e, clock.Now())
	if did := m.done(); did != "measure bounded; evict bounded in 1s, disruption false" {
		t.Errorf("it did %q", did)
	}
	off := false
	k.LocalStorageCapacityIsolation = &off
	m.subjects = have(subject{name: "bounded", logs: 10})
	look(t, e, clock.Now())
	if did := m.done(); did != "" {
		t.Errorf("turned off, it did %q", did)
	}
}

func TestNothingToLookAt(t *testing.T) {
	off := false
	k := settings(nil, nil, nil, nil)
	k.LocalStorageCapacityIsolation = &off
	m := &machine{fail: errors.New("asked")}
	e, clock, _ := newManager(t, m, k)
	if look(t, e, clock.Now()); m.done() != "" {
		t.Error("it looked")
	}
}

// The loop looks every ten seconds, at once when a Pod that it ended is gone, and again after half a minute when it
// will not go.
func TestLoop(t *testing.T) {
	m := &machine{memory: 300, disk: 1000, frozen: true, subjects: have(subject{name: "a", memory: 150}, subject{name: "b", memory: 90})}
	e, clock, _ := newManager(t, m, settings(map[string]string{"memory.available": "100"}, nil, nil, nil))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	defer running.Wait()
	defer cancel()
	did := func(want string) {
		t.Helper()
		var got []string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && strings.Join(got, "; ") != want; {
			if d := m.done(); d != "" {
				got = append(got, d)
			}
			<-time.After(time.Millisecond)
		}
		if strings.Join(got, "; ") != want {
			t.Fatalf("it did %q, want %q", got, want)
		}
	}
	asleep := func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !clock.HasWaiters(); {
			if time.Now().After(deadline) {
				t.Fatal("it does not wait")
			}
			<-time.After(time.Millisecond)
		}
	}
	did("changed; evict a in 1s, disruption true")
	asleep()
	clock.Step(patience)
	did("evict a in 1s, disruption true")
	asleep()
	m.mu.Lock()
	m.frozen = false
	m.mu.Unlock()
	clock.Step(patience)
	did("evict a in 1s, disruption true")
	asleep()
	m.mu.Lock()
	m.memory = 50
	m.mu.Unlock()
	clock.Step(period - time.Second)
	did("")
	clock.Step(time.Second)
	did("evict b in 1s, disruption true")
}
