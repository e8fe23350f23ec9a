package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// TaintToleration keeps Pods off nodes whose taints they do not tolerate. It prefers nodes whose
// PreferNoSchedule taints they tolerate.
type TaintToleration struct{}

var refusedTaint = framework.RefuseForGood(TaintTolerationName, "node(s) had untolerated taint(s)")

// Name implements framework.Plugin.
func (TaintToleration) Name() string { return TaintTolerationName }

// Filter implements framework.Filterer.
func (TaintToleration) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if untolerated(node.Node, pod.Pod) != nil {
		return refusedTaint
	}
	return nil
}

// untolerated returns the first taint of the node that keeps the Pod off, or nil if there is none.
func untolerated(node *corev1.Node, pod *corev1.Pod) *corev1.Taint {
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod.Spec.Tolerations, t) {
			return t
		}
	}
	return nil
}

// PreScore implements framework.PreScorer: it keeps the tolerations that can match PreferNoSchedule taints.
func (TaintToleration) PreScore(pod *framework.PodInfo, _ *framework.Snapshot, fitting []*framework.NodeInfo) framework.PreScore {
	any := false
	for _, node := range fitting {
		for i := range node.Node.Spec.Taints {
			any = any || node.Node.Spec.Taints[i].Effect == corev1.TaintEffectPreferNoSchedule
		}
	}
	if !any {
		return framework.PreScore{Skip: true} // all nodes would score the same
	}
	var soft []corev1.Toleration
	for _, t := range pod.Pod.Spec.Tolerations {
		if t.Effect == "" || t.Effect == corev1.TaintEffectPreferNoSchedule {
			soft = append(soft, t)
		}
	}
	return framework.PreScore{State: soft}
}

// Score implements framework.Scorer: the number of PreferNoSchedule taints that the Pod does not tolerate.
func (TaintToleration) Score(state any, _ *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	soft, _ := state.([]corev1.Toleration)
	var n int64
	for i := range node.Node.Spec.Taints {
		if t := &node.Node.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(soft, t) {
			n++
		}
	}
	return n
}

// Normalize implements framework.Normalizer.
func (TaintToleration) Normalize(_ any, _ *framework.PodInfo, _ []*framework.NodeInfo, scores []int64) {
	normalize(scores, true)
}

// Hints implements framework.Hinter.
func (TaintToleration) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.NodeAdd | framework.NodeTaints, Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			node, ok := e.New.(*corev1.Node)
			if !ok || untolerated(node, pod.Pod) != nil {
				return !ok
			}
			old, ok := e.Old.(*corev1.Node)
			return !ok || untolerated(old, pod.Pod) != nil
		}},
		{Kinds: framework.OwnTolerations},
	}
}

// Explain implements framework.Explainer.
func (TaintToleration) Explain(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	var out []framework.Detail
	for i := range node.Node.Spec.Taints {
		t := &node.Node.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerates(pod.Pod.Spec.Tolerations, t) {
			continue
		}
		out = append(out, framework.Detail{
			Plugin: TaintTolerationName, Reason: refusedTaint.Message(),
			Text: fmt.Sprintf("taint %s is not tolerated", t.ToString()),
			Fix:  fixForTaint(t.Key),
		})
	}
	return out
}

// fixForTaint describes what lifts a taint. Taints that follow from a node condition disappear with the
// condition.
func fixForTaint(key string) string {
	switch key {
	case corev1.TaintNodeNotReady, corev1.TaintNodeNetworkUnavailable:
		return "the node is not ready: see its Ready condition; the taint is removed with the cause"
	case corev1.TaintNodeUnreachable:
		return "the node's agent has stopped reporting: start it, or delete the node if it is gone for good"
	case corev1.TaintNodeMemoryPressure:
		return "the node is short of memory: delete a pod on it; the taint is then removed"
	case corev1.TaintNodeDiskPressure:
		return "the node is short of disk: free some space; the taint is then removed"
	case corev1.TaintNodePIDPressure:
		return "the node is short of process IDs: delete a pod on it; the taint is then removed"
	}
	return "add a toleration for it to the pod, or remove the taint from the node"
}

// normalize scales scores into the range from 0 to MaxScore by the largest of them. With reversed, the lowest
// score becomes the best.
func normalize(scores []int64, reversed bool) {
	var most int64
	for _, s := range scores {
		most = max(most, s)
	}
	for i, s := range scores {
		switch {
		case most == 0 && reversed:
			scores[i] = framework.MaxScore
		case most == 0:
			scores[i] = 0
		case reversed:
			scores[i] = framework.MaxScore - framework.MaxScore*s/most
		default:
			scores[i] = framework.MaxScore * s / most
		}
	}
}
