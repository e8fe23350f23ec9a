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
	// PodPlaced: a Pod was bound or is about to be bound.
	PodPlaced
	// PodLabels: the labels of a placed Pod changed.
	PodLabels
	// PodShrunk: a placed Pod requests less than before.
	PodShrunk
	// PodGone: a placed Pod was deleted or has ended.
	PodGone
	// OwnLabels, OwnTolerations, OwnGates, OwnShrunk and OwnSpec: the waiting Pod itself changed. OwnSpec
	// accompanies each of the others.
	OwnLabels
	OwnTolerations
	OwnGates
	OwnShrunk
	OwnSpec
	NamespaceLabels
	// ClaimChange: a persistent volume claim was created or changed.
	ClaimChange
	// ForceRetry wakes every Pod, whichever plugin refused it.
	ForceRetry
)

// Event is a change in the cluster. Old and New are *corev1.Node, *PodInfo or *corev1.Namespace. Old is nil for
// an addition, New for a removal.
type Event struct {
	Kinds    EventKind
	Old, New any
}

// Hint names the events that may make a Pod fit that the plugin refused.
type Hint struct {
	Kinds EventKind
	// Helps reports whether this particular event may help. Nil means that every event of these kinds may.
	Helps func(pod *PodInfo, e Event) bool
}
