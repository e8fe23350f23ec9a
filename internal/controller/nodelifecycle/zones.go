package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How fast nodes of a zone are given NoExecute taints, and when a zone counts as partly broken. The numbers
// are Kubernetes' defaults.
const (
	normalPause       = 10 * time.Second  // 0.1 nodes/s
	slowPause         = 100 * time.Second // 0.01 nodes/s, in a large zone that is partly broken
	largeZone         = 50
	unhealthyFraction = 0.55
)

// zoneState is how much of a zone is not ready.
type zoneState string

const (
	stateInitial zoneState = "Initial"
	stateNormal  zoneState = "Normal"
	statePartial zoneState = "PartialDisruption"
	stateFull    zoneState = "FullDisruption"
)

// stateOf judges a zone by how many of its nodes are ready and not.
func stateOf(ready, notReady int) zoneState {
	switch {
	case ready == 0 && notReady > 0:
		return stateFull
	case notReady > 2 && float64(notReady)/float64(notReady+ready) >= unhealthyFraction:
		return statePartial
	}
	return stateNormal
}

// zone is what the controller remembers of a zone.
type zone struct {
	state zoneState
	// pause is the time between two nodes given NoExecute taints; 0 means that none is.
	pause time.Duration
	// next is when the next node may be given one.
	next time.Time
}

// pauseIn answers with the pause in a zone of that state and size, as long as not every zone is broken.
func pauseIn(state zoneState, nodes int) time.Duration {
	if state != statePartial {
		return normalPause
	}
	if nodes > largeZone {
		return slowPause
	}
	return 0
}

// shift is what a new look at the zones means for the cluster.
type shift int

const (
	shiftNone shift = iota
	// shiftIntoDarkness: now no node of any zone is ready. More likely it is this side that is cut off, so
	// nobody is evicted.
	shiftIntoDarkness
	// shiftOutOfDarkness: some node is ready again. The others get a fresh grace period.
	shiftOutOfDarkness
)

// turn takes in how many nodes are ready and not in each zone, and sets the zones' states and pauses.
func turn(zones map[string]*zone, counts map[string]*count) shift {
	wasDark, isDark := true, true
	for name := range zones {
		if counts[name] == nil {
			delete(zones, name)
		}
	}
	for name, n := range counts {
		if zones[name] == nil {
			zones[name] = &zone{state: stateInitial, pause: normalPause}
		}
		wasDark = wasDark && zones[name].state == stateFull
		isDark = isDark && stateOf(n.ready, n.notReady) == stateFull
	}
	if len(counts) == 0 || wasDark && isDark {
		return shiftNone
	}
	for name, n := range counts {
		z := zones[name]
		z.state = stateOf(n.ready, n.notReady)
		z.pause = pauseIn(z.state, n.ready+n.notReady)
		if isDark {
			z.pause = 0
		}
	}
	switch {
	case isDark:
		return shiftIntoDarkness
	case wasDark:
		return shiftOutOfDarkness
	}
	return shiftNone
}

// count is the nodes of a zone.
type count struct{ ready, notReady int }

func (c *count) add(ready corev1.ConditionStatus) {
	if ready == corev1.ConditionTrue {
		c.ready++
	} else {
		c.notReady++
	}
}

// zoneOf is the zone of a node: its region and zone labels, "" when it has none.
func zoneOf(node *corev1.Node) string {
	label := func(names ...string) string {
		for _, n := range names {
			if v, ok := node.Labels[n]; ok {
				return v
			}
		}
		return ""
	}
	region := label(corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaRegion)
	z := label(corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone)
	if region == "" && z == "" {
		return ""
	}
	return region + ":\x00:" + z
}

// excluded says whether the node does not count for its zone's state.
func excluded(node *corev1.Node) bool {
	_, ok := node.Labels["node.kubernetes.io/exclude-disruption"]
	return ok
}
