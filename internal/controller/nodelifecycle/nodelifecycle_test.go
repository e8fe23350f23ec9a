package nodelifecycle

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var t0 = time.Unix(10000, 0)

func node(ready corev1.ConditionStatus, heartbeat time.Time, taints ...corev1.Taint) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(t0)}}
	n.Spec.Taints = taints
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(heartbeat)}}
	}
	return n
}

func TestDeadline(t *testing.T) {
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	lease := func(s int) *metav1.MicroTime { m := metav1.NewMicroTime(at(s)); return &m }
	tests := []struct {
		name string
		live func(*health) *corev1.Node
		want time.Time
	}{
		{"never reported: from its creation", func(h *health) *corev1.Node {
			n := node("", t0)
			h.observe(n, at(20))
			return n
		}, at(60)},
		{"first sight: from now, however old the heartbeat", func(h *health) *corev1.Node {
			n := node(corev1.ConditionTrue, t0)
			h.observe(n, at(500))
			return n
		}, at(550)},
		{"the same heartbeat is no sign of life", func(h *health) *corev1.Node {
			n := node(corev1.ConditionTrue, t0)
			h.observe(n, at(0))
			h.observe(n, at(40))
			return n
		}, at(50)},
		{"a new heartbeat is", func(h *health) *corev1.Node {
			h.observe(node(corev1.ConditionTrue, t0), at(0))
			n := node(corev1.ConditionTrue, at(40))
			h.observe(n, at(41))
			return n
		}, at(91)},
		{"so is a renewed lease", func(h *health) *corev1.Node {
			n := node(corev1.ConditionTrue, t0)
			h.observe(n, at(0))
			h.renew(lease(1), "1", at(10))
			h.renew(lease(1), "2", at(20))
			return n
		}, at(60)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &health{}
			n := tt.live(h)
			if got := h.deadline(n, DefaultGrace, DefaultStartupGrace); !got.Equal(tt.want) {
				t.Errorf("deadline %v, want %v", got.Sub(t0), tt.want.Sub(t0))
			}
		})
	}
}

func TestSilent(t *testing.T) {
	n := node(corev1.ConditionTrue, t0)
	got := silent(n, t0.Add(time.Minute))
	if len(got) != 4 || got[0].Reason != "NodeStatusUnknown" || got[0].Message != "Kubelet stopped posting node status." ||
		got[1].Reason != "NodeStatusNeverUpdated" || got[1].Message != "Kubelet never posted node status." {
		t.Errorf("got %v", got)
	}
	n.Status.Conditions = got
	if again := silent(n, t0.Add(2*time.Minute)); len(again) != 0 {
		t.Errorf("said twice: %v", again)
	}
}

func keysOf(taints []corev1.Taint) []string {
	var out []string
	for _, t := range taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	return out
}

func TestTaints(t *testing.T) {
	own := corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoSchedule}
	notReady := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	cordoned := func(n *corev1.Node) *corev1.Node { n.Spec.Unschedulable = true; return n }
	tests := []struct {
		name    string
		node    *corev1.Node
		want    []string
		changed bool
	}{
		{"ready", node(corev1.ConditionTrue, t0, own), []string{"mine:NoSchedule"}, false},
		{"becomes ready", node(corev1.ConditionTrue, t0, notReady, own), []string{"mine:NoSchedule"}, true},
		{"not ready", node(corev1.ConditionFalse, t0, own), []string{"mine:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"}, true},
		{"not ready still", node(corev1.ConditionFalse, t0, notReady), []string{"node.kubernetes.io/not-ready:NoSchedule"}, false},
		{"silent", node(corev1.ConditionUnknown, t0, notReady), []string{"node.kubernetes.io/unreachable:NoSchedule"}, true},
		{"cordoned", cordoned(node(corev1.ConditionTrue, t0)), []string{"node.kubernetes.io/unschedulable:NoSchedule"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, changed := withNoSchedule(tt.node, t0)
			if !slices.Equal(keysOf(got), tt.want) || changed != tt.changed {
				t.Errorf("got %v %v", keysOf(got), changed)
			}
		})
	}
}

func TestNoExecute(t *testing.T) {
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	got, changed := withNoExecute([]corev1.Taint{unreachable}, corev1.TaintNodeNotReady, t0)
	if !changed || !slices.Equal(keysOf(got), []string{"node.kubernetes.io/not-ready:NoExecute"}) {
		t.Errorf("swap: %v", keysOf(got))
	}
	if _, changed := withNoExecute([]corev1.Taint{unreachable}, corev1.TaintNodeUnreachable, t0); changed {
		t.Error("the same taint again")
	}
	if got, changed := withNoExecute([]corev1.Taint{unreachable}, "", t0); !changed || len(got) != 0 {
		t.Errorf("removal: %v", keysOf(got))
	}
}

func TestZones(t *testing.T) {
	zones := map[string]*zone{}
	look := func(want shift, counts map[string]*count) {
		t.Helper()
		if got := turn(zones, counts); got != want {
			t.Errorf("shift %v, want %v", got, want)
		}
	}
	look(shiftNone, map[string]*count{"a": {ready: 2}})
	look(shiftIntoDarkness, map[string]*count{"a": {notReady: 2}})
	if zones["a"].pause != 0 {
		t.Error("nobody may be evicted in the dark")
	}
	look(shiftNone, map[string]*count{"a": {notReady: 2}})
	look(shiftOutOfDarkness, map[string]*count{"a": {ready: 1, notReady: 1}})
	if zones["a"].pause != normalPause {
		t.Errorf("pause %v", zones["a"].pause)
	}
	look(shiftNone, map[string]*count{"a": {ready: 1, notReady: 1}, "b": {notReady: 5}})
	if zones["b"].state != stateFull || zones["b"].pause != normalPause {
		t.Errorf("a zone that is down among others: %+v", zones["b"])
	}
	look(shiftNone, map[string]*count{"a": {ready: 4, notReady: 6}, "b": {ready: 30, notReady: 60}})
	if zones["a"].pause != 0 || zones["b"].pause != slowPause {
		t.Errorf("partly broken, small and large: %v %v", zones["a"].pause, zones["b"].pause)
	}
}
