package daemonset

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/controller/podcontrol/podtest"
)

var now = podtest.Now

func newSet(surge, unavailable int) *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "ns", UID: "ds", Generation: 7}}
	ds.Spec.Template.Labels = map[string]string{"app": "x"}
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(unavailable))}}
	return ds
}

func newNode(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}, Spec: corev1.NodeSpec{Taints: taints}}
}

// on returns a Pod that runs on a node at a revision, named by both.
func on(node, revision string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := podtest.New(revision+"-"+node, change...)
	p.Spec.NodeName, p.Labels[appsv1.ControllerRevisionHashLabelKey] = node, revision
	return p
}

func failed(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodFailed} }

func taint(key string, effect corev1.TaintEffect) corev1.Taint {
	return corev1.Taint{Key: key, Effect: effect}
}

// tainted returns a node on which no new Pod belongs and where one that runs may stay.
func tainted(name string) *corev1.Node {
	return newNode(name, taint("x", corev1.TaintEffectNoSchedule))
}

// waitingFor returns a Pod that is made for a node and not bound yet.
func waitingFor(node, revision string) *corev1.Pod {
	ds := newSet(0, 1)
	p := newPod(podcontrol.Owner{Object: ds, Kind: kind, Events: ds}, ds, node, revision)
	p.Name, p.Status.Phase = revision+"-"+node, corev1.PodPending
	return p
}

func older(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-2 * time.Hour)) }

func minReady(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = 60 }

func limits(surge, unavailable string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: ptr.To(intstr.Parse(surge)), MaxUnavailable: ptr.To(intstr.Parse(unavailable))}
	}
}

func TestDecide(t *testing.T) {
	selecting := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"name": "a"} }
	onDelete := func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	}
	a, b, c := newNode("a"), newNode("b"), newNode("c")
	for _, tt := range []struct {
		name               string
		surge, unavailable int
		change             func(*appsv1.DaemonSet)
		nodes              []*corev1.Node
		pods               []*corev1.Pod
		pause              time.Duration
		create, remove     string
		again              time.Duration
	}{
		{name: "one on each node", unavailable: 1, nodes: []*corev1.Node{a, b}, create: "a b"},
		{name: "only where the selector fits", unavailable: 1, change: selecting, nodes: []*corev1.Node{a, b}, create: "a"},
		{name: "leaves a node that does not fit any more", unavailable: 1, change: selecting, nodes: []*corev1.Node{a, b},
			pods: []*corev1.Pod{on("a", "new"), on("b", "new")}, remove: "new-b"},
		{name: "a cordoned node and one that is not ready get one", unavailable: 1,
			nodes: []*corev1.Node{newNode("a", taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)), newNode("b", taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute))}, create: "a b"},
		{name: "NoSchedule keeps new ones out and lets others stay", unavailable: 1,
			nodes: []*corev1.Node{newNode("a", taint("x", corev1.TaintEffectNoSchedule)), newNode("b", taint("x", corev1.TaintEffectNoSchedule))}, pods: []*corev1.Pod{on("a", "new")}},
		{name: "NoExecute removes", unavailable: 1, nodes: []*corev1.Node{newNode("a", taint("x", corev1.TaintEffectNoExecute))}, pods: []*corev1.Pod{on("a", "new")}, remove: "new-a"},
		{name: "a failed one is removed", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new", failed)}, remove: "new-a"},
		{name: "a failed one stays for the pause", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new", failed)}, pause: 4 * time.Second, again: 4 * time.Second},
		{name: "a succeeded one is removed at once", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new", podtest.Ended)}, pause: time.Second, remove: "new-a"},
		{name: "a failed one that is going is replaced", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new", failed, podtest.Deleted)}, create: "a"},
		{name: "one that is going is waited for", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new", podtest.Deleted)}},
		{name: "an update takes one", unavailable: 1, nodes: []*corev1.Node{a, b, c}, pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old")}, remove: "old-a"},
		{name: "an update takes two", unavailable: 2, nodes: []*corev1.Node{a, b, c}, pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old")}, remove: "old-a old-b"},
		{name: "an update waits for the new one", unavailable: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "new", podtest.Unready), on("b", "old")}},
		{name: "an update waits for the one that is going", unavailable: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "old", podtest.Deleted), on("b", "old")}},
		{name: "broken old ones go whatever the limit", unavailable: 1, nodes: []*corev1.Node{a, b, c},
			pods: []*corev1.Pod{on("a", "old", podtest.Unready), on("b", "old", podtest.Unready), on("c", "old")}, remove: "old-a old-b"},
		{name: "OnDelete takes none", change: onDelete, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "old")}},
		{name: "a surge creates beside", surge: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "old"), on("b", "old")}, create: "a"},
		{name: "a surge waits for the new one", surge: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "old"), on("a", "new", podtest.Unready), on("b", "old")}},
		{name: "a surge removes the old one then", surge: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "old"), on("a", "new"), on("b", "old")}, remove: "old-a"},
		{name: "a surge beside a broken one does not count", surge: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "old", podtest.Unready), on("b", "old")}, create: "a b"},
		{name: "half of them, rounded up", change: limits("0", "50%"), nodes: []*corev1.Node{a, b, c}, pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old")}, remove: "old-a old-b"},
		{name: "a small percentage is one", change: limits("0", "1%"), nodes: []*corev1.Node{a, b, c}, pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old")}, remove: "old-a"},
		{name: "a surge of half of them", change: limits("50%", "0"), nodes: []*corev1.Node{a, b, c}, pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old")}, create: "a b"},
		{name: "percentages are of the nodes where one belongs", change: limits("0", "50%"), nodes: []*corev1.Node{a, b, tainted("c"), tainted("d")},
			pods: []*corev1.Pod{on("a", "old"), on("b", "old"), on("c", "old"), on("d", "old")}, remove: "old-a"},
		{name: "a stray under surge stays while others are not available", surge: 1, nodes: []*corev1.Node{a, tainted("b")},
			pods: []*corev1.Pod{on("a", "new", podtest.Unready), on("b", "old")}},
		{name: "and goes when they are", surge: 1, nodes: []*corev1.Node{a, tainted("b")}, pods: []*corev1.Pod{on("a", "new"), on("b", "old")}, remove: "old-b"},
		{name: "a broken stray goes at once", surge: 1, nodes: []*corev1.Node{a, tainted("b")}, pods: []*corev1.Pod{on("a", "new", podtest.Unready), on("b", "old", podtest.Unready)}, remove: "old-b"},
		{name: "a stray of the newest revision stays", surge: 1, nodes: []*corev1.Node{a, tainted("b")}, pods: []*corev1.Pod{on("a", "new"), on("b", "new")}},
		{name: "one that waits for a node that is gone is removed", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new"), waitingFor("b", "new")}, remove: "new-b"},
		{name: "one that waits for its node stays", unavailable: 1, nodes: []*corev1.Node{a, b}, pods: []*corev1.Pod{on("a", "new"), waitingFor("b", "new")}},
		{name: "one that ran on a node that is gone is the garbage collector's", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "new"), on("b", "new")}},
		{name: "of two that wait and run the running one stays", unavailable: 1, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{waitingFor("a", "new"), on("a", "old")}, remove: "new-a"},
		{name: "a surge waits for minReadySeconds", surge: 1, change: minReady, nodes: []*corev1.Node{a}, pods: []*corev1.Pod{on("a", "old", older), on("a", "new", podtest.ReadyFor(20*time.Second))}, again: 40 * time.Second},
		{name: "an update waits for minReadySeconds", unavailable: 1, change: minReady, nodes: []*corev1.Node{a, b},
			pods: []*corev1.Pod{on("a", "new", podtest.ReadyFor(20*time.Second)), on("b", "old")}, again: 40 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ds := newSet(tt.surge, tt.unavailable)
			if tt.change != nil {
				tt.change(ds)
			}
			v := &view{ds: ds, hash: "new", nodes: tt.nodes, pods: byNode(tt.pods), now: now, backOff: func(string) time.Duration { return tt.pause }}
			d := v.decide()
			var removed []string
			for _, p := range d.remove {
				removed = append(removed, p.Name)
			}
			if got := strings.Join(d.create, " "); got != tt.create {
				t.Errorf("creates on %q, want %q", got, tt.create)
			}
			if got := strings.Join(removed, " "); got != tt.remove {
				t.Errorf("removes %q, want %q", got, tt.remove)
			}
			if d.again != tt.again {
				t.Errorf("again after %v, want %v", d.again, tt.again)
			}
		})
	}
}

func TestStatusCounts(t *testing.T) {
	ds := newSet(0, 1)
	ds.Spec.MinReadySeconds = 60
	nodes := []*corev1.Node{newNode("a"), newNode("b"), newNode("c"), newNode("d"), newNode("e", taint("x", corev1.TaintEffectNoSchedule))}
	pods := []*corev1.Pod{on("a", "new"), on("b", "new", podtest.ReadyFor(20*time.Second)), on("c", "old", podtest.Unready), on("e", "old")}
	v := &view{ds: ds, hash: "new", nodes: nodes, pods: byNode(pods), now: now, backOff: func(string) time.Duration { return 0 }}
	d := v.decide()
	want := appsv1.DaemonSetStatus{ObservedGeneration: 7, DesiredNumberScheduled: 4, CurrentNumberScheduled: 3, NumberMisscheduled: 1,
		NumberReady: 2, NumberAvailable: 1, NumberUnavailable: 3, UpdatedNumberScheduled: 2}
	if d.status.String() != want.String() {
		t.Errorf("got %v\nwant %v", d.status, want)
	}
	if d.again != 40*time.Second {
		t.Errorf("again after %v, want when b becomes available", d.again)
	}
}

func TestPodIsForOneNode(t *testing.T) {
	ds := newSet(0, 1)
	p := newPod(podcontrol.Owner{Object: ds, Kind: kind, Events: ds}, ds, "a", "new")
	if target(p) != "a" || p.Spec.NodeName != "" {
		t.Errorf("made for %q and bound to %q", target(p), p.Spec.NodeName)
	}
	if !slices.Equal(p.Spec.Tolerations, tolerated) {
		t.Errorf("tolerates %v", p.Spec.Tolerations)
	}
	ds.Spec.Template.Spec.HostNetwork = true
	if got := tolerations(&ds.Spec.Template.Spec); got[len(got)-1] != networkUnavailable {
		t.Errorf("on the node's network it tolerates %v", got)
	}
}

func TestBackOffDoubles(t *testing.T) {
	var b backOff
	for i := range 12 {
		b = b.next(now)
		if want := min(time.Second<<i, 15*time.Minute); b.left(now) != want {
			t.Errorf("failure %d: %v, want %v", i, b.left(now), want)
		}
	}
	if b = b.next(now.Add(31 * time.Minute)); b.pause != time.Second {
		t.Errorf("long after the last failure: %v", b.pause)
	}
}
