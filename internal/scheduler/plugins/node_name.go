package plugins

import (
	"fmt"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeName restricts a Pod that names a node to that node.
type NodeName struct{}

var refusedNodeName = framework.RefuseForGood(NodeNameName, "node(s) didn't match the requested node name")

// Name implements framework.Plugin.
func (NodeName) Name() string { return NodeNameName }

// Filter implements framework.Filterer.
func (NodeName) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if want := pod.Pod.Spec.NodeName; want != "" && want != node.Node.Name {
		return refusedNodeName
	}
	return nil
}

// Hints implements framework.Hinter.
func (NodeName) Hints() []framework.Hint { return []framework.Hint{{Kinds: framework.NodeAdd}} }

// Explain implements framework.Explainer.
func (NodeName) Explain(_ framework.State, pod *framework.PodInfo, _ *framework.NodeInfo) []framework.Detail {
	return []framework.Detail{{
		Plugin: NodeNameName, Reason: refusedNodeName.Message(),
		Text: fmt.Sprintf("the pod names node %q", pod.Pod.Spec.NodeName),
	}}
}
