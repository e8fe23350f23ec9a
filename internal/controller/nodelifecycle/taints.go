package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rule maps a condition with a status to a taint.
type rule struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}

var byCondition = []rule{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// noScheduleTaints returns the keys of the NoSchedule taints that this controller maintains and the node should
// have.
func noScheduleTaints(node *corev1.Node) []string {
	var keys []string
	for _, r := range byCondition {
		if c := condition(&node.Status, r.condition); c != nil && c.Status == r.status {
			keys = append(keys, r.key)
		}
	}
	if node.Spec.Unschedulable {
		keys = append(keys, corev1.TaintNodeUnschedulable)
	}
	return keys
}

// keeps reports whether this controller maintains the taint.
func keeps(t corev1.Taint) bool {
	if t.Effect != corev1.TaintEffectNoSchedule {
		return false
	}
	return t.Key == corev1.TaintNodeUnschedulable || slices.ContainsFunc(byCondition, func(r rule) bool { return r.key == t.Key })
}

// withNoSchedule returns the node's taints with up-to-date NoSchedule taints, and whether that changes any.
func withNoSchedule(node *corev1.Node, now time.Time) ([]corev1.Taint, bool) {
	want := noScheduleTaints(node)
	var out []corev1.Taint
	changed := false
	for _, t := range node.Spec.Taints {
		if keeps(t) {
			at := slices.Index(want, t.Key)
			if at < 0 {
				changed = true
				continue
			}
			want = slices.Delete(want, at, at+1)
		}
		out = append(out, t)
	}
	for _, key := range want {
		changed = true
		out = append(out, taint(key, corev1.TaintEffectNoSchedule, now))
	}
	return out, changed
}

// withNoExecute returns the taints with the NoExecute taints for the node's readiness replaced by the one with
// this key ("" for none), and whether that changes any.
func withNoExecute(taints []corev1.Taint, key string, now time.Time) ([]corev1.Taint, bool) {
	var out []corev1.Taint
	changed, found := false, key == ""
	for _, t := range taints {
		ours := t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
		if ours && t.Key != key {
			changed = true
			continue
		}
		found = found || ours
		out = append(out, t)
	}
	if !found {
		changed = true
		out = append(out, taint(key, corev1.TaintEffectNoExecute, now))
	}
	return out, changed
}

// evicting reports whether the node has a NoExecute taint for its readiness.
func evicting(node *corev1.Node) bool {
	_, has := withNoExecute(node.Spec.Taints, "", time.Time{})
	return has
}

// evictingKey returns the NoExecute taint for a readiness, or "" for a ready node.
func evictingKey(ready corev1.ConditionStatus) string {
	switch ready {
	case corev1.ConditionFalse:
		return corev1.TaintNodeNotReady
	case corev1.ConditionUnknown:
		return corev1.TaintNodeUnreachable
	}
	return ""
}

func taint(key string, effect corev1.TaintEffect, now time.Time) corev1.Taint {
	at := metav1.NewTime(now)
	return corev1.Taint{Key: key, Effect: effect, TimeAdded: &at}
}
