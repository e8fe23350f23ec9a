package framework

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// MaxScore is the best score that a plugin gives a node.
const MaxScore int64 = 100

// Plugin takes part in decisions by those of the interfaces below that it has.
type Plugin interface {
	// Name is the name that configuration files use.
	Name() string
}

// Hinter has a plugin's refusals lifted by events. A plugin that refuses without being a Hinter has its
// refusals lifted by every event.
type Hinter interface {
	Plugin
	Hints() []Hint
}

// PreEnqueuer is asked before a Pod may wait for a decision at all.
type PreEnqueuer interface {
	Plugin
	PreEnqueue(pod *PodInfo) *Status
}

// QueueSorter orders the Pods that wait for a decision.
type QueueSorter interface {
	Plugin
	// Less says whether a is decided on before b.
	Less(a, b Waiting) bool
}

// PreFilter is the outcome of a plugin's look at the Pod and the whole cluster, before it looks at nodes.
type PreFilter struct {
	// State is handed to the plugin's Filter.
	State State
	// Skip: the plugin has no say about this Pod, and its Filter is not called.
	Skip bool
	// Only names the nodes that come into question at all; nil means all.
	Only sets.Set[string]
	// Refused ends the decision.
	Refused *Status
}

// State is what a plugin keeps for one decision.
type State interface {
	// Clone answers with a copy that PodAdded and PodRemoved may change.
	Clone() State
}

// PreFilterer looks at the Pod and the cluster once for each decision.
type PreFilterer interface {
	Plugin
	PreFilter(pod *PodInfo, snapshot *Snapshot) PreFilter
}

// Adjuster keeps a PreFilterer's state right when the question is what would be if Pods were added to or
// removed from nodes.
type Adjuster interface {
	PreFilterer
	PodAdded(state State, pod, added *PodInfo, node *NodeInfo)
	PodRemoved(state State, pod, removed *PodInfo, node *NodeInfo)
}

// Filterer says whether a Pod may go to a node. It is called from several goroutines at a time.
type Filterer interface {
	Plugin
	Filter(state State, pod *PodInfo, node *NodeInfo) *Status
}

// Explainer puts a Filterer's refusal into numbers and names. It is only called for a node that the plugin
// refused.
type Explainer interface {
	Filterer
	Explain(state State, pod *PodInfo, node *NodeInfo) []Detail
}

// PreScore is the outcome of a plugin's look at the nodes that fit, before it scores them.
type PreScore struct {
	State any
	// Skip: the plugin has no opinion about this Pod.
	Skip bool
}

// PreScorer looks at the nodes that fit once for each decision.
type PreScorer interface {
	Plugin
	PreScore(pod *PodInfo, snapshot *Snapshot, fitting []*NodeInfo) PreScore
}

// Scorer says how good a node is for a Pod, from 0 to MaxScore.
type Scorer interface {
	Plugin
	Score(state any, pod *PodInfo, snapshot *Snapshot, node *NodeInfo) int64
}

// Normalizer brings the scores of all nodes into the range from 0 to MaxScore, when Score gives them in a
// measure of its own.
type Normalizer interface {
	Scorer
	Normalize(state any, pod *PodInfo, fitting []*NodeInfo, scores []int64)
}

// PostFilterer is asked when a Pod fits nowhere.
type PostFilterer interface {
	Plugin
	PostFilter(ctx context.Context, decision Decision) PostFilter
}

// PostFilter is what a PostFilterer did.
type PostFilter struct {
	// Nominated is the node on which room is being made; "" for none.
	Nominated string
	// Clear takes back an earlier nomination. Without it, and without Nominated, that one stays.
	Clear bool
	// Message goes into the Pod's message.
	Message string
}

// Reserver keeps account of what a decision takes, and gives it back when the Pod is not bound after all.
// Unreserve is called for every Reserve that was, and may be called without one.
type Reserver interface {
	Plugin
	Reserve(pod *PodInfo, node string) *Status
	Unreserve(pod *PodInfo, node string)
}

// Binder makes a decision known to the API server.
type Binder interface {
	Plugin
	Bind(ctx context.Context, pod *PodInfo, node string) error
}

// Decision is a decision that found no node, as a PostFilterer sees it.
type Decision interface {
	Pod() *PodInfo
	Snapshot() *Snapshot
	// Refused answers with why a node was refused; nil when it was not looked at.
	Refused(node int) *Status
	// Trial starts from the node as it is; the Trial's methods say what would be.
	Trial(node int) Trial
}

// Trial is a node on which Pods are added and removed in thought.
type Trial interface {
	Node() *NodeInfo
	Add(pod *PodInfo)
	Remove(pod *PodInfo)
	// Fits runs the filters, with the Pods that are nominated to the node counted in.
	Fits() *Status
}

// Namespaces answers with the labels of namespaces; nil for one that is not known.
type Namespaces interface {
	Labels(namespace string) labels.Set
}
