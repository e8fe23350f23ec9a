package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// roomyNode has a bit of everything.
func roomyNode(c *Config) {
	node := &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("2"), v1.ResourceMemory: resource.MustParse("2Gi"), v1.ResourcePods: resource.MustParse("3"),
		v1.ResourceEphemeralStorage: resource.MustParse("2Gi"), "example.com/thing": resource.MustParse("2"),
	}}}
	c.Node = func() *v1.Node { return node }
}

func asks(name v1.ResourceName, amount string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{name: resource.MustParse(amount)}
	}
}

func named(name string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Name, p.UID = name, types.UID("uid-"+name) }
}

// forceDelete takes a Pod out of the API at once, as a deletion with grace period 0 does.
func (n *node) forceDelete(name string) {
	n.t.Helper()
	if err := n.client.CoreV1().Pods("ns").Delete(n.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// held waits until so many Pods wait for room.
func (n *node) held(want int) {
	n.t.Helper()
	n.eventually(func() string {
		n.m.mu.Lock()
		defer n.m.mu.Unlock()
		if len(n.m.held) == want {
			return ""
		}
		return fmt.Sprintf("%d pods wait for room, not %d", len(n.m.held), want)
	})
}

func (n *node) rejected(name, reason string) {
	n.t.Helper()
	n.becomes(name, "rejected with "+reason, func(st *v1.PodStatus) bool { return st.Phase == v1.PodFailed && st.Reason == reason })
}

// A Pod that was deleted by force still has its processes for a moment: who gets its room waits for that at the node.
func TestWaitsForRoomOfDeletedPods(t *testing.T) {
	port := func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 8080}} }
	for _, tc := range []struct {
		name, reason string
		ask          func(*v1.Pod)
		more         int // other Pods there
	}{
		{"cpu", "OutOfcpu", asks(v1.ResourceCPU, "1500m"), 0},
		{"memory", "OutOfmemory", asks(v1.ResourceMemory, "1500Mi"), 0},
		{"storage", "OutOfephemeral-storage", asks(v1.ResourceEphemeralStorage, "1500Mi"), 0},
		{"extended", "OutOfexample.com/thing", asks("example.com/thing", "2"), 0},
		{"ports", "NodePorts", port, 0},
		{"pods", "OutOfpods", func(*v1.Pod) {}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t, roomyNode)
			n.runtime.script(func() { n.runtime.deaf["c"] = true })
			n.create(newPod(named("a1"), tc.ask))
			n.running("a1")
			for i := range tc.more {
				n.create(newPod(named(fmt.Sprint("b", i))))
				n.running(fmt.Sprint("b", i))
			}
			n.forceDelete("a1")
			n.create(newPod(named("a2"), tc.ask))
			n.held(1)
			// What does not fit next to the one that waits is rejected, and takes nothing from it.
			n.create(newPod(named("a3"), tc.ask))
			n.rejected("a3", tc.reason)
			if n.runtime.count("RunPodSandbox a2") != 0 {
				t.Error("a2 did not wait")
			}
			n.endGrace()
			n.running("a2")
		})
	}
}

// A Pod that waits for room for more than a moment says for whose.
func TestTellsWhatItWaitsFor(t *testing.T) {
	n := newNode(t, roomyNode)
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.create(newPod(named("a1"), asks(v1.ResourceCPU, "1500m")))
	n.running("a1")
	n.forceDelete("a1")
	n.create(newPod(named("a2"), asks(v1.ResourceCPU, "1500m")))
	n.held(1)
	n.advance(tellAfter)
	n.saw("Normal WaitingForRoom: Waiting until pods that are ending on the node have given up what they hold: ns/a1. " +
		"Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000")
	n.endGrace()
	n.running("a2")
}

// A workload whose Pod is deleted by force again and again: every Pod waits for its turn, none is rejected, and those
// that were deleted before it came leave no trace.
func TestForcedDeletionsInARow(t *testing.T) {
	n := newNode(t, roomyNode)
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.create(newPod(named("r0"), asks(v1.ResourceCPU, "1500m")))
	n.running("r0")
	for i := 1; i < 20; i++ {
		n.forceDelete(fmt.Sprint("r", i-1))
		n.create(newPod(named(fmt.Sprint("r", i)), asks(v1.ResourceCPU, "1500m")))
		n.held(1)
	}
	n.endGrace()
	n.running("r19")
	for i := 1; i < 19; i++ {
		if n.runtime.count(fmt.Sprint("RunPodSandbox r", i)) != 0 {
			t.Errorf("r%d was started though it was deleted", i)
		}
	}
	if list := n.eventList(); slices.ContainsFunc(list, func(e string) bool { return len(e) > 14 && e[:14] == "Warning OutOfc" }) {
		t.Errorf("events: %v", list)
	}
}

// The room of a Pod that is being deleted is its own until its grace period is over.
func TestRoomOfPodsInTheirGracePeriod(t *testing.T) {
	n := newNode(t, roomyNode)
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.create(newPod(named("a1"), asks(v1.ResourceCPU, "1500m")))
	n.running("a1")
	n.delete("a1", 30)
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 30") == 1 {
			return ""
		}
		return "not stopped"
	})
	n.create(newPod(named("a2"), asks(v1.ResourceCPU, "1500m")))
	n.rejected("a2", "OutOfcpu")
	n.forceDelete("a1")
	n.create(newPod(named("a3"), asks(v1.ResourceCPU, "1500m")))
	n.held(1)
	n.endGrace()
	n.running("a3")
}

// A Pod that waits for room and is deleted meanwhile goes without having been started.
func TestDeletedWhileItWaitsForRoom(t *testing.T) {
	n := newNode(t, roomyNode)
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.create(newPod(named("a1"), asks(v1.ResourceCPU, "1500m")))
	n.running("a1")
	n.forceDelete("a1")
	n.create(newPod(named("a2"), asks(v1.ResourceCPU, "1500m")))
	n.held(1)
	n.delete("a2", 30)
	n.eventually(func() string {
		if n.get("a2") != nil {
			return "a2 is still there"
		}
		return ""
	})
	n.held(0)
	n.endGrace()
	n.eventually(func() string {
		if len(n.m.Pods()) > 0 || !n.runtime.empty() {
			return "something is left"
		}
		return ""
	})
	if n.runtime.count("RunPodSandbox a2") != 0 {
		t.Error("a2 was started")
	}
}

// A daemon that comes up takes in new Pods when it knows which were there before.
func TestNewPodsWaitUntilTheAPIHasSpoken(t *testing.T) {
	n := newNode(t, roomyNode)
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.create(newPod(named("a1"), asks(v1.ResourceCPU, "1500m")))
	n.running("a1")
	n.stop()
	if err := n.client.Tracker().Delete(v1.SchemeGroupVersion.WithResource("pods"), "ns", "a1"); err != nil {
		t.Fatal(err)
	}
	a2 := n.create(newPod(named("a2"), asks(v1.ResourceCPU, "1500m")))
	n.start(func(m *Manager) { m.UpdatePod(SourceAPI, a2) })
	n.held(1) // for the orphan that the first one is now
	n.endGrace()
	n.running("a2")
	if got := n.runtime.callList(); slices.Index(got, "StopPodSandbox a1") > slices.Index(got, "RunPodSandbox a2") {
		t.Errorf("calls: %v", got)
	}
}

// A static Pod that is edited while its first state ends: the last state runs, and when the file is gone nothing does.
func TestStaticPodEditedFast(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Sources = []string{SourceAPI, "file"} })
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.m.SetPods("file", []*v1.Pod{staticPod("v1")})
	runs := func(uid types.UID) {
		t.Helper()
		n.eventually(func() string {
			if p, ok := n.m.Pod(uid); ok && isTrue(&p.Status, v1.PodReady) && len(n.m.Pods()) == 1 {
				return ""
			}
			return fmt.Sprintf("not only %s runs: %v", uid, n.m.Pods())
		})
	}
	stops := func(times int) {
		t.Helper()
		n.eventually(func() string {
			if got := n.runtime.count("StopContainer c 3"); got != times {
				return fmt.Sprintf("stopped %d times, not %d", got, times)
			}
			return ""
		})
	}
	runs("v1")
	n.m.SetPods("file", []*v1.Pod{staticPod("v2")})
	stops(1)
	n.m.SetPods("file", []*v1.Pod{staticPod("v3")})
	n.advance(3 * time.Second)
	runs("v3")
	if got := n.runtime.count("RunPodSandbox kube-web"); got != 2 {
		t.Errorf("%d sandboxes were made", got)
	}
	// Back to what it was, twice, and then gone.
	n.m.SetPods("file", []*v1.Pod{staticPod("v4")})
	stops(2)
	n.m.SetPods("file", []*v1.Pod{staticPod("v3")})
	n.m.SetPods("file", nil)
	n.advance(3 * time.Second)
	n.eventually(func() string {
		if len(n.m.Pods()) > 0 || !n.runtime.empty() {
			return "something runs though the file is gone"
		}
		return ""
	})
}

// The name of a static Pod that waited for room and was taken away is free for the next.
func TestStaticPodTakenAwayWhileItWaitsForRoom(t *testing.T) {
	n := newNode(t, roomyNode, func(c *Config) { c.Sources = []string{SourceAPI, "file"} })
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	n.m.SetPods("file", nil)
	n.create(newPod(named("a1"), asks(v1.ResourceCPU, "1500m")))
	n.running("a1")
	one, two := staticPod("one"), staticPod("two")
	asks(v1.ResourceCPU, "1500m")(one)
	n.m.SetPods("file", []*v1.Pod{one})
	n.held(1)
	n.m.SetPods("file", []*v1.Pod{two})
	n.held(0)
	n.eventually(func() string {
		if p, ok := n.m.Pod("two"); ok && isTrue(&p.Status, v1.PodReady) {
			return ""
		}
		return "the next of the name does not run"
	})
}

// Inputs that come before the runtime was listed count as they are then, and not one after the other.
func TestEarlyInputsAreSuperseded(t *testing.T) {
	var queue []early
	add := func(source string, all bool, uid types.UID) {
		queue = supersede(queue, early{source: source, all: all, uid: uid})
	}
	add("api", false, "a")
	add("file", true, "")
	add("api", false, "b")
	add("api", false, "a") // after b now
	add("file", true, "")
	var got []string
	for _, e := range queue {
		got = append(got, fmt.Sprint(e.source, e.all, e.uid))
	}
	if want := []string{"apifalseb", "apifalsea", "filetrue"}; !slices.Equal(got, want) {
		t.Errorf("queue: %v", got)
	}
	add("api", true, "")
	add("api", false, "a")
	if len(queue) != 3 {
		t.Errorf("queue: %v", queue)
	}
}

// News that a busy worker has not come to yet is replaced by later news of the same.
func TestLettersAreSuperseded(t *testing.T) {
	w := &worker{wake: make(chan struct{}, 1)}
	var did []string
	note := func(what string) func() { return func() { did = append(did, what) } }
	w.postLatest(topicPod, note("pod 1"))
	w.post(note("order"))
	w.postLatest("id", note("event 1"))
	w.postLatest(topicPod, note("pod 2"))
	w.postLatest("id", note("event 2"))
	w.post(note("order"))
	w.read()
	if want := []string{"order", "pod 2", "event 2", "order"}; !slices.Equal(did, want) {
		t.Errorf("did: %v", did)
	}
}

// A sandbox that comes to be after its Pod has gone is found and removed.
func TestSandboxThatOutlivesItsPod(t *testing.T) {
	n := newNode(t)
	late := make(chan struct{})
	n.runtime.script(func() { n.runtime.late = late })
	n.create(newPod())
	n.eventually(func() string {
		if _, ok := n.m.Pod("uid-web"); ok {
			return ""
		}
		return "not seen"
	})
	n.forceDelete("web")
	n.eventually(func() string {
		if len(n.m.Pods()) > 0 {
			return "the pod is still there"
		}
		return ""
	})
	close(late)
	n.eventually(func() string {
		n.clock.Step(quietAfter)
		if n.runtime.count("RunPodSandbox web") == 1 && n.runtime.empty() {
			return ""
		}
		return "the sandbox is left"
	})
}

// A folder that belongs to no Pod goes at the next quiet moment.
func TestFoldersOfNoPod(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.volumes.mu.Lock()
	n.volumes.left = map[types.UID]bool{"uid-web": true, "uid-gone": true}
	n.volumes.mu.Unlock()
	n.create(newPod(named("other")))
	n.running("other")
	n.forceDelete("other")
	n.eventually(func() string {
		n.clock.Step(quietAfter)
		n.volumes.mu.Lock()
		defer n.volumes.mu.Unlock()
		if n.volumes.torn["uid-gone"] != 1 || n.volumes.torn["uid-web"] != 0 {
			return fmt.Sprintf("torn down: %v", n.volumes.torn)
		}
		return ""
	})
}

// What was told of the end of a Pod stays as it is, whatever the next daemon finds of it.
func TestEndedPodsAreToldOnce(t *testing.T) {
	n := newNode(t, roomyNode)
	once := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
	n.create(newPod(named("rejected"), asks(v1.ResourceCPU, "3")))
	n.rejected("rejected", "OutOfcpu")
	n.create(newPod(named("failed"), once))
	n.running("failed")
	n.runtime.exit("c", 3)
	n.becomes("failed", "failed", func(st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	n.create(newPod(named("evicted")))
	n.running("evicted")
	<-n.m.Evict("uid-evicted", verdictOf("Evicted"))
	n.becomes("evicted", "evicted", func(st *v1.PodStatus) bool { return st.Reason == "Evicted" })
	n.eventually(func() string {
		for _, p := range n.m.Pods() {
			if n.get(p.Name).Status.ContainerStatuses == nil && p.Name != "rejected" {
				return "not told"
			}
		}
		return ""
	})
	before := map[string]string{}
	for _, p := range n.m.Pods() {
		before[p.Name] = n.get(p.Name).ResourceVersion
	}
	n.restart()
	n.runtime.script(func() { clear(n.runtime.containers); clear(n.runtime.sandboxes) })
	n.restart()
	n.create(newPod(named("another")))
	n.running("another")
	for name, version := range before {
		if p := n.get(name); p.ResourceVersion != version {
			t.Errorf("%s was told of again: %+v", name, p.Status)
		}
	}
}

// endGrace waits until the container c, which ignores its signal, is being stopped, and lets the grace period pass.
// A waiting timer alone would not do: that of the event WaitingForRoom may be the first.
func (n *node) endGrace() {
	n.t.Helper()
	n.eventually(func() string {
		if !slices.ContainsFunc(n.runtime.callList(), func(call string) bool { return strings.HasPrefix(call, "StopContainer c ") }) {
			return "the container is not being stopped"
		}
		return ""
	})
	n.clock.Step(30 * time.Second)
}
