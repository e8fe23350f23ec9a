package plugins

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	features "k8s.io/component-helpers/nodedeclaredfeatures"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeDeclaredFeatures keeps a Pod off nodes that do not declare a feature that its spec uses (KEP-5328).
type NodeDeclaredFeatures struct{}

// kubernetesVersion is the version that decides which features a Pod needs.
var kubernetesVersion = version.MustParseGeneric("1.37.0")

var refusedFeatures = framework.RefuseForGood(NodeDeclaredFeaturesName, "node(s) didn't match Pod's required features")

// Name implements framework.Plugin.
func (NodeDeclaredFeatures) Name() string { return NodeDeclaredFeaturesName }

// neededFeatures are the features that a Pod needs.
type neededFeatures []string

// Clone implements framework.State; nothing in it changes.
func (f neededFeatures) Clone() framework.State { return f }

func featuresOf(pod *corev1.Pod) (neededFeatures, error) {
	set, err := features.DefaultFramework.InferForPodScheduling(&features.PodInfo{Spec: &pod.Spec}, kubernetesVersion)
	if err != nil {
		return nil, fmt.Errorf("find the features that pod %s/%s needs: %w", pod.Namespace, pod.Name, err)
	}
	if set.IsEmpty() {
		return nil, nil
	}
	return features.DefaultFramework.Unmap(set)
}

// PreFilter implements framework.PreFilterer.
func (NodeDeclaredFeatures) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	needed, err := featuresOf(pod.Pod)
	if err != nil {
		return framework.PreFilter{Refused: framework.Fail(NodeDeclaredFeaturesName, err)}
	}
	return framework.PreFilter{State: needed, Skip: len(needed) == 0}
}

// Filter implements framework.Filterer.
func (NodeDeclaredFeatures) Filter(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	needed, _ := state.(neededFeatures)
	if len(needed.missing(node.Node)) > 0 {
		return refusedFeatures
	}
	return nil
}

// missing returns the features that the node does not declare.
func (f neededFeatures) missing(node *corev1.Node) []string {
	var out []string
	for _, name := range f {
		if !slices.Contains(node.Status.DeclaredFeatures, name) {
			out = append(out, name)
		}
	}
	return out
}

// Hints implements framework.Hinter.
func (NodeDeclaredFeatures) Hints() []framework.Hint {
	return []framework.Hint{{Kinds: framework.NodeAdd | framework.NodeFeatures | framework.OwnSpec}}
}

// Explain implements framework.Explainer.
func (NodeDeclaredFeatures) Explain(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	needed, _ := state.(neededFeatures)
	missing := strings.Join(needed.missing(node.Node), ", ")
	return []framework.Detail{{
		Plugin: NodeDeclaredFeaturesName, Reason: refusedFeatures.Message(),
		Text: "the node does not declare " + missing, Fix: "add a node of a version that has the feature, or do not use it",
	}}
}
