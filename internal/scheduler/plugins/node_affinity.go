package plugins

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeAffinity restricts a Pod to the nodes that its node selector and required node affinity select, and
// prefers those that its preferred affinity selects.
type NodeAffinity struct {
	// Added and AddedPreferred are an affinity that the scheduler's configuration adds to every Pod, or nil.
	Added          *framework.NodeSelector
	AddedPreferred []PreferredTerm
}

// PreferredTerm is a term and the weight of the nodes it selects.
type PreferredTerm struct {
	framework.NodeTerm
	Weight int64
}

var (
	refusedNodeAffinity  = framework.RefuseForGood(NodeAffinityName, "node(s) didn't match Pod's node affinity/selector")
	refusedAddedAffinity = framework.RefuseForGood(NodeAffinityName, "node(s) didn't match scheduler-enforced node affinity")
	refusedConflict      = framework.RefuseForGood(NodeAffinityName, "pod affinity terms conflict")
)

// Name implements framework.Plugin.
func (NodeAffinity) Name() string { return NodeAffinityName }

// PreFilter implements framework.PreFilterer. If every term names nodes, only those are considered.
func (n NodeAffinity) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	required := requiredNodeAffinity(pod.Pod)
	if required == nil {
		return framework.PreFilter{Skip: len(pod.Pod.Spec.NodeSelector) == 0 && n.Added == nil}
	}
	only := sets.New[string]()
	for i := range required.NodeSelectorTerms {
		names, all := namedNodes(&required.NodeSelectorTerms[i])
		if all {
			return framework.PreFilter{}
		}
		only = only.Union(names)
	}
	if len(required.NodeSelectorTerms) == 0 {
		return framework.PreFilter{}
	}
	if only.Len() == 0 {
		return framework.PreFilter{Refused: refusedConflict}
	}
	return framework.PreFilter{Only: only}
}

func requiredNodeAffinity(pod *corev1.Pod) *corev1.NodeSelector {
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// namedNodes returns the nodes that a term names; all is true if the term does not name nodes.
func namedNodes(term *corev1.NodeSelectorTerm) (names sets.Set[string], all bool) {
	for _, f := range term.MatchFields {
		if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn {
			continue
		}
		if names == nil {
			names = sets.New(f.Values...)
		} else {
			names = names.Intersection(sets.New(f.Values...))
		}
	}
	return names, names == nil
}

// Filter implements framework.Filterer.
func (n NodeAffinity) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if n.Added != nil && !n.Added.Matches(node.Node) {
		return refusedAddedAffinity
	}
	if !pod.Nodes.Matches(node.Node) {
		return refusedNodeAffinity
	}
	return nil
}

// PreScore implements framework.PreScorer: it parses the Pod's preferred terms.
func (n NodeAffinity) PreScore(pod *framework.PodInfo, _ *framework.Snapshot, _ []*framework.NodeInfo) framework.PreScore {
	terms := n.AddedPreferred
	if a := pod.Pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		own, err := ReadPreferred(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		if err != nil {
			return framework.PreScore{Skip: true} // validation rejects such terms
		}
		terms = slices.Concat(terms, own)
	}
	return framework.PreScore{State: terms, Skip: len(terms) == 0}
}

// ReadPreferred parses preferred terms. Terms of weight 0 and empty terms are dropped.
func ReadPreferred(in []corev1.PreferredSchedulingTerm) ([]PreferredTerm, error) {
	var out []PreferredTerm
	for i := range in {
		t, err := framework.NewNodeTerm(&in[i].Preference)
		if err != nil {
			return nil, err
		}
		out = append(out, PreferredTerm{t, int64(in[i].Weight)})
	}
	return out, nil
}

// Score implements framework.Scorer: the sum of the weights of the terms that select the node.
func (n NodeAffinity) Score(state any, _ *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	terms, _ := state.([]PreferredTerm)
	var sum int64
	for i := range terms {
		if terms[i].Matches(node.Node) {
			sum += terms[i].Weight
		}
	}
	return sum
}

// Normalize implements framework.Normalizer.
func (NodeAffinity) Normalize(_ any, _ *framework.PodInfo, _ []*framework.NodeInfo, scores []int64) {
	normalize(scores, false)
}

// Hints implements framework.Hinter.
func (n NodeAffinity) Hints() []framework.Hint {
	return []framework.Hint{{
		Kinds: framework.NodeAdd | framework.NodeLabels,
		Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			node, ok := e.New.(*corev1.Node)
			if !ok || !n.selects(pod, node) {
				return !ok
			}
			old, ok := e.Old.(*corev1.Node)
			return !ok || !n.selects(pod, old)
		},
	}, {Kinds: framework.OwnSpec}}
}

func (n NodeAffinity) selects(pod *framework.PodInfo, node *corev1.Node) bool {
	return (n.Added == nil || n.Added.Matches(node)) && pod.Nodes.Matches(node)
}

// Explain implements framework.Explainer.
func (n NodeAffinity) Explain(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	if n.Filter(state, pod, node) == refusedAddedAffinity {
		return []framework.Detail{{
			Plugin: NodeAffinityName, Reason: refusedAddedAffinity.Message(),
			Text: "the scheduler's configuration keeps every pod off this node",
		}}
	}
	d := framework.Detail{Plugin: NodeAffinityName, Reason: refusedNodeAffinity.Message()}
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(pod.Pod.Spec.NodeSelector)) {
		want := pod.Pod.Spec.NodeSelector[key]
		if have, ok := node.Node.Labels[key]; !ok {
			missing = append(missing, fmt.Sprintf("the node has no label %s (nodeSelector wants %s=%s)", key, key, want))
		} else if have != want {
			missing = append(missing, fmt.Sprintf("the node has %s=%s (nodeSelector wants %s=%s)", key, have, key, want))
		}
		d.Fix = "label the node, or change the pod's nodeSelector"
	}
	if len(missing) == 0 {
		missing = append(missing, "no term of the pod's required node affinity selects the node")
		d.Fix = "label the node, or change the pod's node affinity"
	}
	d.Text = strings.Join(missing, "; ")
	return []framework.Detail{d}
}
