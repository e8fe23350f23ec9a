package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How fast the nodes of a zone get NoExecute taints, and when a zone counts as partially disrupted. The numbers
// are the defaults of kube-controller-manager (--node-eviction-rate, --secondary-node-eviction-rate,
// --large-cluster-size-threshold, --unhealthy-zone-threshold).
const (
	normalPause       = 10 * time.Second  // 0.1 nodes/s
	slowPause         = 100 * time.Second // 0.01 nodes/s, in a large zone that is partially disrupted
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

// stateOf returns the state of a zone with these numbers of nodes.
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
	// pause is the time between two nodes that get NoExecute taints. 0 means that none gets one.
	pause time.Duration
	// next is when the next node may get one.
	next time.Time
}

// pauseIn returns the pause in a zone of that state and size, provided that not every zone is broken.
func pauseIn(state zoneState, nodes int) time.Duration {
	if state != statePartial {
		return normalPause
	}
	if nodes > largeZone {
		return slowPause
	}
	return 0
}

// shift is what a new count of the zones means for the cluster.
type shift int

const (
	shiftNone shift = iota
	// shiftIntoDarkness: no node of any zone is ready any more. It is more likely that this side is
	// disconnected, so evictions stop.
	shiftIntoDarkness
	// shiftOutOfDarkness: a node is ready again. The others get a fresh grace period.
	shiftOutOfDarkness
)

// turn sets the zones' states and pauses from the number of ready and unready nodes in each zone.
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

// count is the number of ready and unready nodes of a zone.
type count struct{ ready, notReady int }

func (c *count) add(ready corev1.ConditionStatus) {
	if ready == corev1.ConditionTrue {
		c.ready++
	} else {
		c.notReady++
	}
}

// zoneOf returns the zone of a node from its region and zone labels, or "" if it has none.
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

// excluded reports whether the node does not count for its zone's state.
func excluded(node *corev1.Node) bool {
	_, ok := node.Labels["node.kubernetes.io/exclude-disruption"]
	return ok
}
