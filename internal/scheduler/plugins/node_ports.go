package plugins

import (
	"fmt"
	"slices"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodePorts keeps a Pod off nodes where one of its host ports is in use.
type NodePorts struct{}

var refusedPorts = framework.Refuse(NodePortsName, "node(s) didn't have free ports for the requested pod ports")

// Name implements framework.Plugin.
func (NodePorts) Name() string { return NodePortsName }

// PreFilter implements framework.PreFilterer.
func (NodePorts) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	return framework.PreFilter{Skip: len(pod.HostPorts) == 0}
}

// Filter implements framework.Filterer.
func (NodePorts) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if portsConflict(pod.HostPorts, node.HostPorts) {
		return refusedPorts
	}
	return nil
}

func portsConflict(want, taken []framework.HostPort) bool {
	return slices.ContainsFunc(want, func(w framework.HostPort) bool { return slices.ContainsFunc(taken, w.Conflicts) })
}

// Hints implements framework.Hinter.
func (NodePorts) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.NodeAdd},
		{Kinds: framework.PodGone, Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			gone, ok := e.Old.(*framework.PodInfo)
			return !ok || portsConflict(pod.HostPorts, gone.HostPorts)
		}},
	}
}

// Explain implements framework.Explainer.
func (NodePorts) Explain(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	var out []framework.Detail
	for _, want := range pod.HostPorts {
		for _, other := range node.Pods {
			if !slices.ContainsFunc(other.HostPorts, want.Conflicts) {
				continue
			}
			out = append(out, framework.Detail{
				Plugin: NodePortsName, Reason: refusedPorts.Message(),
				Text:    fmt.Sprintf("host port %d/%s is in use", want.Port, want.Protocol),
				Holders: []framework.Holder{{Pod: other.Name().String()}},
				Fix:     "use another hostPort, or none",
			})
		}
	}
	return out
}
