package framework

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// MaxScore is the highest score that a plugin gives a node.
const MaxScore int64 = 100

// Plugin takes part in decisions through the interfaces below that it implements.
type Plugin interface {
	// Name returns the name that configuration files use.
	Name() string
}

// Hinter is implemented by plugins whose refusals only some events can lift. Any event may lift the refusal of
// a plugin that is not a Hinter.
type Hinter interface {
	Plugin
	Hints() []Hint
}

// PreEnqueuer decides whether a Pod may wait for a decision at all.
type PreEnqueuer interface {
	Plugin
	PreEnqueue(pod *PodInfo) *Status
}

// QueueSorter orders the Pods that wait for a decision.
type QueueSorter interface {
	Plugin
	// Less reports whether a is decided before b.
	Less(a, b Waiting) bool
}

// PreFilter is the result of a plugin's look at the Pod and the whole cluster, before it looks at nodes.
type PreFilter struct {
	// State is passed to the plugin's Filter.
	State State
	// Skip is set when the plugin does not apply to this Pod. Its Filter is then not called.
	Skip bool
	// Only names the only nodes to consider. Nil means all nodes.
	Only sets.Set[string]
	// Refused, if set, ends the decision.
	Refused *Status
}

// State is what a plugin keeps for the time of one decision.
type State interface {
	// Clone returns a copy that PodAdded and PodRemoved may change.
	Clone() State
}

// PreFilterer looks at the Pod and the cluster once for each decision.
type PreFilterer interface {
	Plugin
	PreFilter(pod *PodInfo, snapshot *Snapshot) PreFilter
}

// Adjuster updates a PreFilterer's state for the question of what would happen if Pods were added to or removed
// from nodes.
type Adjuster interface {
	PreFilterer
	PodAdded(state State, pod, added *PodInfo, node *NodeInfo)
	PodRemoved(state State, pod, removed *PodInfo, node *NodeInfo)
}

// Filterer decides whether a Pod may go to a node. It is called from several goroutines at a time.
type Filterer interface {
	Plugin
	Filter(state State, pod *PodInfo, node *NodeInfo) *Status
}

// Explainer describes a Filterer's refusal with numbers and names. It is only called for a node that the plugin
// refused.
type Explainer interface {
	Filterer
	Explain(state State, pod *PodInfo, node *NodeInfo) []Detail
}

// PreScore is the result of a plugin's look at the nodes that fit, before it scores them.
type PreScore struct {
	State any
	// Skip is set when the plugin has no preference for this Pod.
	Skip bool
}

// PreScorer looks at the nodes that fit once for each decision.
type PreScorer interface {
	Plugin
	PreScore(pod *PodInfo, snapshot *Snapshot, fitting []*NodeInfo) PreScore
}

// Scorer scores a node for a Pod, from 0 to MaxScore.
type Scorer interface {
	Plugin
	Score(state any, pod *PodInfo, snapshot *Snapshot, node *NodeInfo) int64
}

// Normalizer brings the scores of all nodes into the range from 0 to MaxScore, if Score returns them on a scale
// of its own.
type Normalizer interface {
	Scorer
	Normalize(state any, pod *PodInfo, fitting []*NodeInfo, scores []int64)
}

// PostFilterer is called when a Pod fits no node.
type PostFilterer interface {
	Plugin
	PostFilter(ctx context.Context, decision Decision) PostFilter
}

// PostFilter is the result of a PostFilterer.
type PostFilter struct {
	// Nominated is the node on which room is being made, "" if there is none.
	Nominated string
	// Clear removes an earlier nomination. If Clear is unset and Nominated is empty, the earlier nomination
	// stays.
	Clear bool
	// Message is appended to the Pod's message.
	Message string
}

// Reserver accounts for what a decision takes, and gives it back if the Pod is not bound after all. Unreserve
// is called for every successful Reserve, and may be called without one.
type Reserver interface {
	Plugin
	Reserve(pod *PodInfo, node string) *Status
	Unreserve(pod *PodInfo, node string)
}

// Binder writes a decision to the API server.
type Binder interface {
	Plugin
	Bind(ctx context.Context, pod *PodInfo, node string) error
}

// Decision is a decision that found no node, as a PostFilterer sees it.
type Decision interface {
	Pod() *PodInfo
	Snapshot() *Snapshot
	// Refused returns why a node was refused, or nil if the node was not looked at.
	Refused(node int) *Status
	// Trial returns a copy of the node to which hypothetical changes can be made.
	Trial(node int) Trial
}

// Trial is a node to which Pods are added and from which Pods are removed hypothetically.
type Trial interface {
	Node() *NodeInfo
	Add(pod *PodInfo)
	Remove(pod *PodInfo)
	// Fits runs the filters, counting the Pods that are nominated to the node.
	Fits() *Status
}

// Namespaces looks up the labels of namespaces. The labels of an unknown namespace are nil.
type Namespaces interface {
	Labels(namespace string) labels.Set
}
