package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeUnschedulable keeps Pods off cordoned nodes unless they tolerate the cordon's taint.
type NodeUnschedulable struct{}

var (
	refusedUnschedulable = framework.RefuseForGood(NodeUnschedulableName, "node(s) were unschedulable")
	cordoned             = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
)

// Name implements framework.Plugin.
func (NodeUnschedulable) Name() string { return NodeUnschedulableName }

// Filter implements framework.Filterer.
func (NodeUnschedulable) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if !node.Node.Spec.Unschedulable || tolerates(pod.Pod.Spec.Tolerations, &cordoned) {
		return nil
	}
	return refusedUnschedulable
}

// Hints implements framework.Hinter.
func (NodeUnschedulable) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.NodeAdd | framework.NodeSchedulable, Helps: func(_ *framework.PodInfo, e framework.Event) bool {
			node, ok := e.New.(*corev1.Node)
			return !ok || !node.Spec.Unschedulable
		}},
		{Kinds: framework.OwnTolerations},
	}
}

// Explain implements framework.Explainer.
func (NodeUnschedulable) Explain(framework.State, *framework.PodInfo, *framework.NodeInfo) []framework.Detail {
	return []framework.Detail{{
		Plugin: NodeUnschedulableName, Reason: refusedUnschedulable.Message(),
		Text: "the node is cordoned", Fix: "uncordon it with kubectl uncordon",
	}}
}

func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(quiet, taint, false) {
			return true
		}
	}
	return false
}

// quiet is passed to library calls that log problems which validation has ruled out.
var quiet = klog.Background()
