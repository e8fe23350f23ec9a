package framework

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// NodeSelector is a Pod's node selector and required node affinity, parsed once so that matching it against
// thousands of nodes allocates nothing.
type NodeSelector struct {
	labels map[string]string
	terms  []NodeTerm
	any    bool // there are no terms to satisfy
}

// NodeTerm is one node selector term. All of its requirements must hold. An empty term selects nothing.
type NodeTerm struct {
	labels labels.Requirements
	names  []nameRequirement
}

// nameRequirement is a requirement on the node's name.
type nameRequirement struct {
	names []string
	not   bool
}

// NewNodeSelector parses a Pod's node selector and node affinity. It returns an error for a requirement that
// cannot be parsed.
func NewNodeSelector(pod *corev1.Pod) (NodeSelector, error) {
	s := NodeSelector{labels: pod.Spec.NodeSelector, any: true}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		s.any = false
		for i := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			t, err := NewNodeTerm(&a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[i])
			if err != nil {
				return s, fmt.Errorf("read the node affinity of pod %s/%s: %w", pod.Namespace, pod.Name, err)
			}
			s.terms = append(s.terms, t)
		}
	}
	return s, nil
}

// Matches reports whether the selector selects the node.
func (s *NodeSelector) Matches(node *corev1.Node) bool {
	for key, value := range s.labels {
		if have, ok := node.Labels[key]; !ok || have != value {
			return false
		}
	}
	if s.any {
		return true
	}
	for i := range s.terms {
		if s.terms[i].Matches(node) {
			return true
		}
	}
	return false
}

// operators maps the operators of a node selector term to those of label selectors.
var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}

// NewNodeTerm parses a term.
func NewNodeTerm(in *corev1.NodeSelectorTerm) (NodeTerm, error) {
	var t NodeTerm
	for _, e := range in.MatchExpressions {
		r, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
		if err != nil {
			return t, fmt.Errorf("requirement on label %q: %w", e.Key, err)
		}
		t.labels = append(t.labels, *r)
	}
	for _, f := range in.MatchFields {
		not := f.Operator == corev1.NodeSelectorOpNotIn
		if f.Key != metav1.ObjectNameField || !not && f.Operator != corev1.NodeSelectorOpIn {
			return t, fmt.Errorf("requirement on field %q: only %s with In or NotIn is supported", f.Key, metav1.ObjectNameField)
		}
		t.names = append(t.names, nameRequirement{f.Values, not})
	}
	return t, nil
}

// Matches reports whether the term selects the node.
func (t *NodeTerm) Matches(node *corev1.Node) bool {
	for i := range t.labels {
		if !t.labels[i].Matches(labels.Set(node.Labels)) {
			return false
		}
	}
	for _, r := range t.names {
		if slices.Contains(r.names, node.Name) == r.not {
			return false
		}
	}
	return len(t.labels)+len(t.names) > 0
}
