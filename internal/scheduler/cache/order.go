package cache

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/topology"
)

// order is the order of the nodes. It takes one node of each zone in turn, so that the first hundred nodes
// cover all zones.
type order struct {
	zones  []string
	byZone map[string][]string
	zoneOf map[string]string
}

func newOrder() order {
	return order{byZone: map[string][]string{}, zoneOf: map[string]string{}}
}

// set adds a node and reports whether the order changed.
func (o *order) set(n *corev1.Node) bool {
	zone := topology.GetZoneKey(n)
	if have, ok := o.zoneOf[n.Name]; ok {
		if have == zone {
			return false
		}
		o.remove(n.Name)
	}
	if _, ok := o.byZone[zone]; !ok {
		o.zones = append(o.zones, zone)
	}
	o.byZone[zone] = append(o.byZone[zone], n.Name)
	o.zoneOf[n.Name] = zone
	return true
}

func (o *order) remove(name string) {
	zone, ok := o.zoneOf[name]
	if !ok {
		return
	}
	delete(o.zoneOf, name)
	o.byZone[zone] = slices.DeleteFunc(o.byZone[zone], func(n string) bool { return n == name })
	if len(o.byZone[zone]) == 0 {
		delete(o.byZone, zone)
		o.zones = slices.DeleteFunc(o.zones, func(z string) bool { return z == zone })
	}
}

// names returns the nodes in order.
func (o *order) names() []string {
	out := make([]string, 0, len(o.zoneOf))
	for round := 0; len(out) < len(o.zoneOf); round++ {
		for _, zone := range o.zones {
			if nodes := o.byZone[zone]; round < len(nodes) {
				out = append(out, nodes[round])
			}
		}
	}
	return out
}
