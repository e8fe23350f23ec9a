package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/scheduler"
)

// TestRoomWakesWithoutTime makes room in every possible way while the scheduler's clock stands still, so that
// no back-off ends and no timer fires: only the event itself can place the waiting Pod.
func TestRoomWakesWithoutTime(t *testing.T) {
	w := newWorld(t, scheduler.Options{Clock: testclock.NewFakeClock(time.Now())})
	zero := int64(0)
	patch := func(name, body string) func() error {
		return func() error {
			_, err := w.client.CoreV1().Nodes().Patch(w.ctx, w.ns+"-"+name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
			return err
		}
	}
	gone := func(name string) func() error {
		return func() error {
			return w.client.CoreV1().Pods(w.ns).Delete(w.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}
	}
	status := func(name, body string) func() error {
		return func() error {
			_, err := w.client.CoreV1().Pods(w.ns).Patch(w.ctx, name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
			return err
		}
	}
	// to returns an option that binds a Pod to the one node of its case.
	to := func(node string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			if node != "" {
				p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
			}
		}
	}
	port := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
	}
	apart := func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "apart"}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels}, TopologyKey: corev1.LabelHostname,
		}}}}
	}
	together := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "friend"}}, TopologyKey: corev1.LabelHostname,
		}}}}
	}
	for i, tc := range []struct {
		name string
		// node is the node to create first, if any, with first on it.
		node  func(*corev1.Node)
		first []func(*corev1.Pod)
		pod   []func(*corev1.Pod)
		room  func(node, first string) error
	}{
		{"a Pod is deleted", func(*corev1.Node) {}, []func(*corev1.Pod){requests("1500m", "1Mi")}, []func(*corev1.Pod){requests("1", "1Mi")},
			func(_, first string) error { return gone(first)() }},
		{"a Pod ends by itself", func(*corev1.Node) {}, []func(*corev1.Pod){requests("1500m", "1Mi")}, []func(*corev1.Pod){requests("1", "1Mi")},
			func(_, first string) error { return status(first, `{"status":{"phase":"Succeeded"}}`)() }},
		{"a node is added", nil, nil, []func(*corev1.Pod){requests("1", "1Mi")},
			func(node, _ string) error { w.node(node, "2", "1Gi"); return nil }},
		{"a label is changed", func(*corev1.Node) {}, nil, []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.NodeSelector["disk"] = "ssd" }},
			func(node, _ string) error { return patch(node, `{"metadata":{"labels":{"disk":"ssd"}}}`)() }},
		{"a taint is taken off", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
		}, nil, nil, func(node, _ string) error { return patch(node, `{"spec":{"taints":null}}`)() }},
		{"a node is uncordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, nil, nil,
			func(node, _ string) error { return patch(node, `{"spec":{"unschedulable":false}}`)() }},
		{"a node has more to give", func(*corev1.Node) {}, nil, []func(*corev1.Pod){requests("3", "1Mi")},
			func(node, _ string) error {
				_, err := w.client.CoreV1().Nodes().Patch(w.ctx, w.ns+"-"+node, types.MergePatchType, []byte(`{"status":{"allocatable":{"cpu":"4"}}}`), metav1.PatchOptions{}, "status")
				return err
			}},
		{"a host port is free", func(*corev1.Node) {}, []func(*corev1.Pod){port}, []func(*corev1.Pod){port},
			func(_, first string) error { return gone(first)() }},
		{"what repels is gone", func(*corev1.Node) {}, []func(*corev1.Pod){apart}, []func(*corev1.Pod){apart},
			func(_, first string) error { return gone(first)() }},
		{"what attracts has come", func(*corev1.Node) {}, nil, []func(*corev1.Pod){together},
			func(node, _ string) error {
				w.pod("friend", to(node), func(p *corev1.Pod) { p.Labels = map[string]string{"app": "friend"} })
				return nil
			}},
		{"the Pod tolerates more", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
		}, nil, nil, func(node, _ string) error {
			_, err := w.client.CoreV1().Pods(w.ns).Patch(w.ctx, "waits-"+node, types.JSONPatchType, []byte(`[{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]`), metav1.PatchOptions{})
			return err
		}},
	} {
		node, first := fmt.Sprint("n", i), fmt.Sprint("first-", i)
		if tc.node != nil {
			w.node(node, "2", "1Gi", tc.node)
		}
		if tc.first != nil {
			w.pod(first, append([]func(*corev1.Pod){to(node)}, tc.first...)...)
			w.placed(first)
		}
		w.pod("waits-"+node, append([]func(*corev1.Pod){to(node)}, tc.pod...)...)
		w.refused("waits-" + node)
		if err := tc.room(node, first); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := w.placed("waits-" + node); got != node {
			t.Errorf("%s: on %q", tc.name, got)
		}
	}
}

// refused waits until the Pod's condition reports that no node fits: the decision is over, and the Pod waits.
func (w *world) refused(pod string) {
	w.Helper()
	w.eventually(10*time.Second, func() error {
		p, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
				return nil
			}
		}
		return fmt.Errorf("pod %s has not been refused", pod)
	})
}
