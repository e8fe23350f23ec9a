package services

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// kind is one of the sets and maps of the table; each is there once for each family.
type kind uint8

const (
	byAddress       kind = iota // address . protocol . port : front
	fromOutside                 // the same, for sources that are neither a Pod nor the node
	byNodePort                  // protocol . port : front
	portFromOutside             // the same, for sources that are neither a Pod nor the node
	endpoints                   // ID . number : address . port
	endpointSet                 // ID . address . port
	sources                     // ID . range
	hairpins                    // address . the same address
	refused                     // address . protocol . port
	refusedPorts                // protocol . port
	clusterIPs                  // address
	kinds
)

// slot is the key of an element, and where it is.
type slot struct {
	kind kind
	v4   bool
	key  string
}

// element is a slot with the value there, "" in a set.
type element struct {
	slot
	val string
}

// shape is all that decides what the rules do with a packet to a front, but not to which endpoints it goes.
type shape struct {
	kind      kind // of the front
	v4        bool
	endpoints uint16 // how many; 0 drops
	masq      masq
	ranged    bool   // only from the sources
	affinity  uint32 // seconds; 0 is none
}

// masq is when the source of a connection becomes the node.
type masq uint8

const (
	never masq = iota
	offPod
	always
)

// maxEndpoints is how many endpoints of one port of a Service are used at most.
const maxEndpoints = 1<<16 - 1

// key is the shape as the key of the map of shapes: 8 bytes.
func (s shape) key() string {
	flags := uint32(s.kind)<<20 | uint32(s.masq)<<16 | uint32(s.endpoints)
	if s.v4 {
		flags |= 1 << 31
	}
	if s.ranged {
		flags |= 1 << 30
	}
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, flags), s.affinity))
}

// shapeOf reads what key has written.
func shapeOf(key string) shape {
	flags := binary.BigEndian.Uint32([]byte(key[:4]))
	return shape{
		kind: kind(flags >> 20 & 0xff), masq: masq(flags >> 16 & 0xf), endpoints: uint16(flags),
		v4: flags&(1<<31) != 0, ranged: flags&(1<<30) != 0, affinity: binary.BigEndian.Uint32([]byte(key[4:])),
	}
}

// isFront reports whether a kind's values name an ID and a shape.
func (k kind) isFront() bool { return k <= portFromOutside }

// shared reports whether several Services may want the same key of a kind.
func (k kind) shared() bool {
	return k.isFront() || k == hairpins || k == refused || k == refusedPorts || k == clusterIPs
}

// shapeKey is the part of a front's value that is its shape.
func shapeKey(val string) string { return val[4:] }

// facts is what decides the elements besides a Service and its slices.
type facts struct {
	zone string
	v6   bool
	// kept are addresses and ports that other rules of the node serve.
	kept []netip.AddrPort
}

// elementsOf are the elements of a Service. id returns the number of a list of endpoints of its own.
func elementsOf(s *service, all []*slice, f facts, id func(list string) uint32) []element {
	b := &builder{service: s, facts: f, id: id, have: map[slot]bool{}}
	for _, v4 := range []bool{true, false} {
		b.v4 = v4
		cluster := b.family(s.clusterIPs)
		if len(cluster) == 0 || !v4 && !f.v6 {
			continue
		}
		for _, p := range s.ports {
			b.port(p, cluster, targets(all, p, v4))
		}
	}
	return b.out
}

// builder makes the elements of one Service.
type builder struct {
	*service
	facts
	id   func(string) uint32
	v4   bool
	out  []element
	have map[slot]bool
}

func (b *builder) family(all []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		if a.Is4() == b.v4 {
			out = append(out, a)
		}
	}
	return out
}

func (b *builder) add(k kind, key []byte, val string) {
	s := slot{kind: k, v4: b.v4, key: string(key)}
	if !b.have[s] {
		b.have[s] = true
		b.out = append(b.out, element{s, val})
	}
}

// list is a list of endpoints with its number.
type list struct {
	id    uint32
	count int
}

// port adds the elements of one port.
func (b *builder) port(p servicePort, cluster []netip.Addr, all []target) {
	cluster = slices.DeleteFunc(slices.Clone(cluster), func(a netip.Addr) bool { return slices.Contains(b.kept, netip.AddrPortFrom(a, p.port)) })
	if len(cluster) == 0 && !b.external() {
		return
	}
	for _, a := range cluster {
		b.add(clusterIPs, a.AsSlice(), "")
	}
	c := choose(b.service, all, b.zone)
	if !c.any {
		b.refuse(p, cluster)
		return
	}
	for _, t := range all {
		if t.local {
			b.add(hairpins, append(t.at.Addr().AsSlice(), t.at.Addr().AsSlice()...), "")
		}
	}
	wide, near := b.endpoints(p, "cluster", c.cluster), b.endpoints(p, "local", c.local)
	inside := wide
	if b.internalLocal {
		inside = near
	}
	for _, a := range cluster {
		b.front(byAddress, addressKey(a, p.proto, p.port), inside, offPod, false)
	}
	ranged := b.sourceRanges(wide, near)
	for _, a := range b.family(b.balancerIPs) {
		b.fromAnywhere(byAddress, fromOutside, addressKey(a, p.proto, p.port), wide, near, ranged)
	}
	for _, a := range b.family(b.externalIPs) {
		b.fromAnywhere(byAddress, fromOutside, addressKey(a, p.proto, p.port), wide, near, false)
	}
	if p.nodePort != 0 {
		b.fromAnywhere(byNodePort, portFromOutside, portKey(p.proto, p.nodePort), wide, near, false)
	}
}

// refuse adds what makes connections to all of the port's addresses fail at once.
func (b *builder) refuse(p servicePort, cluster []netip.Addr) {
	for _, a := range slices.Concat(cluster, b.family(b.balancerIPs), b.family(b.externalIPs)) {
		b.add(refused, addressKey(a, p.proto, p.port), "")
	}
	if p.nodePort != 0 {
		b.add(refusedPorts, portKey(p.proto, p.nodePort), "")
	}
}

// fromAnywhere adds an address or a node port that is reached from outside. With the policy Local, sources outside the
// cluster get endpoints of this node and keep their address; those inside get any.
func (b *builder) fromAnywhere(all, outside kind, key []byte, wide, near list, ranged bool) {
	if b.externalLocal {
		b.front(outside, key, near, never, ranged)
		b.front(all, key, wide, offPod, ranged)
		return
	}
	b.front(all, key, wide, always, ranged)
}

func (b *builder) front(k kind, key []byte, l list, m masq, ranged bool) {
	s := shape{kind: k, v4: b.v4, endpoints: uint16(l.count), masq: m, ranged: ranged, affinity: b.affinity}
	if l.count == 0 {
		s.masq, s.ranged, s.affinity = never, false, 0
	}
	b.add(k, key, string(binary.BigEndian.AppendUint32(nil, l.id))+s.key())
}

// endpoints adds a list of endpoints.
func (b *builder) endpoints(p servicePort, name string, all []netip.AddrPort) list {
	if len(all) == 0 {
		return list{}
	}
	all = all[:min(len(all), maxEndpoints)]
	family := "6"
	if b.v4 {
		family = "4"
	}
	l := list{id: b.id(name + family + string(p.proto) + p.name), count: len(all)}
	head := binary.BigEndian.AppendUint32(nil, l.id)
	for i, at := range all {
		val := string(append(at.Addr().AsSlice(), portBytes(at.Port())...))
		// Numbers are in the order of bytes that the kernel's generator of numbers writes.
		b.add(endpoints, binary.NativeEndian.AppendUint32(slices.Clone(head), uint32(i)), val)
		if b.affinity != 0 {
			b.add(endpointSet, append(slices.Clone(head), val...), "")
		}
	}
	return l
}

// sourceRanges adds which sources may use balancerIPs, and reports whether that is not all.
func (b *builder) sourceRanges(lists ...list) bool {
	if len(b.sources) == 0 {
		return false
	}
	for _, p := range outermost(b.rangesOfFamily(b.sources)) {
		for _, l := range lists {
			if l.count > 0 {
				key := append(binary.BigEndian.AppendUint32(nil, l.id), p.Addr().AsSlice()...)
				b.add(sources, append(key, lastOf(p).AsSlice()...), "")
			}
		}
	}
	return true
}

func (b *builder) rangesOfFamily(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		if p.Addr().Is4() == b.v4 {
			out = append(out, p)
		}
	}
	return out
}

// outermost leaves out the ranges that lie within others: the kernel takes no overlapping ones.
func outermost(all []netip.Prefix) []netip.Prefix {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Bits() - b.Bits(); c != 0 {
			return c
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range all {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

// lastOf is the last address of a range.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

func portBytes(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

func portKey(proto uint8, port uint16) []byte {
	return append([]byte{proto, 0, 0, 0}, portBytes(port)...)
}

func addressKey(a netip.Addr, proto uint8, port uint16) []byte {
	return append(a.AsSlice(), portKey(proto, port)...)
}
