package framework

// EventKind is a set of kinds of change in the cluster.
type EventKind uint32

const (
	NodeAdd EventKind = 1 << iota
	NodeRemove
	NodeAllocatable
	NodeLabels
	NodeTaints
	NodeSchedulable // spec.unschedulable
	NodeFeatures    // status.declaredFeatures
	// PodPlaced: a Pod was bound, or is about to be.
	PodPlaced
	// PodLabels: the labels of a placed Pod changed.
	PodLabels
	// PodShrunk: a placed Pod requests less.
	PodShrunk
	// PodGone: a placed Pod is deleted or has ended.
	PodGone
	// OwnLabels, OwnTolerations, OwnGates, OwnShrunk, OwnSpec: the waiting Pod itself changed. OwnSpec goes
	// with any of them.
	OwnLabels
	OwnTolerations
	OwnGates
	OwnShrunk
	OwnSpec
	NamespaceLabels
	// ClaimChange: a persistent volume claim was made or changed.
	ClaimChange
	// ForceRetry wakes every Pod, whatever refused it.
	ForceRetry
)

// Event is a change in the cluster. Old and New are *corev1.Node, *PodInfo or *corev1.Namespace, nil before
// an addition and after a removal.
type Event struct {
	Kinds    EventKind
	Old, New any
}

// Hint says which events may make a Pod fit that the plugin refused.
type Hint struct {
	Kinds EventKind
	// Helps says whether this very event may; nil says that each may.
	Helps func(pod *PodInfo, e Event) bool
}
