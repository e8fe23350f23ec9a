package services

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// state is what the table must hold, with what it follows from. It computes; it acts on nothing.
type state struct {
	facts
	services map[types.NamespacedName]*entry
	// slots are the slots that several Services may want.
	slots map[slot]*claim
	// lists are the numbers of the lists of endpoints, and whose they are.
	lists map[uint32]*entry
	// shapes are how many fronts have each shape.
	shapes map[string]int
}

// entry is what is known of a Service: its slices may be there before it.
type entry struct {
	service *service
	slices  map[string]*slice
	// elements are those that it wants in the table, of the Service as applied.
	elements map[slot]string
	applied  *service
	// numbers are those of its lists of endpoints.
	numbers map[string]uint32
}

// claim is who wants a slot; the oldest Service has it.
type claim struct {
	holder  *entry
	val     string
	waiting []*entry
}

func newState(f facts) *state {
	return &state{
		facts: f, services: map[types.NamespacedName]*entry{}, slots: map[slot]*claim{}, lists: map[uint32]*entry{}, shapes: map[string]int{},
	}
}

// of returns the entry of a Service, a new one if there is none.
func (s *state) of(name types.NamespacedName) *entry {
	e := s.services[name]
	if e == nil {
		e = &entry{}
		s.services[name] = e
	}
	return e
}

// setSlice notes a slice of a Service; nil is one that is gone.
func (e *entry) setSlice(name string, sl *slice) {
	switch {
	case sl == nil:
		delete(e.slices, name)
	case e.slices == nil:
		e.slices = map[string]*slice{name: sl}
	default:
		e.slices[name] = sl
	}
}

// changes are what is to be written to the table.
type changes struct {
	// put are slots with their new values, drop those to be deleted. had is whether a slot of put has another value.
	put  map[slot]string
	had  map[slot]bool
	drop map[slot]bool
	// flows are the UDP addresses and ports whose endpoints are not what they were.
	flows map[frontOf]map[netip.AddrPort]bool
}

// frontOf is an address and port of a Service; a node port has no address.
type frontOf struct {
	at netip.AddrPort
	v4 bool
}

func newChanges() *changes {
	return &changes{put: map[slot]string{}, had: map[slot]bool{}, drop: map[slot]bool{}, flows: map[frontOf]map[netip.AddrPort]bool{}}
}

// set notes that a slot gets a value.
func (c *changes) set(s slot, val string, had bool) {
	if c.drop[s] {
		delete(c.drop, s)
		had = true
	}
	if _, again := c.put[s]; !again {
		c.had[s] = had
	}
	c.put[s] = val
}

// remove notes that a slot is to be deleted.
func (c *changes) remove(s slot) {
	if _, put := c.put[s]; put {
		had := c.had[s]
		delete(c.put, s)
		delete(c.had, s)
		if !had {
			return
		}
	}
	c.drop[s] = true
}

// update computes what a Service wants now and adds the difference to what it wanted to c.
func (s *state) update(name types.NamespacedName, c *changes) {
	e := s.services[name]
	if e == nil {
		return
	}
	want := map[slot]string{}
	if e.service != nil {
		used := map[string]bool{}
		for _, el := range elementsOf(e.service, sorted(e.slices), s.facts, func(list string) uint32 {
			used[list] = true
			return s.number(e, list)
		}) {
			want[el.slot] = el.val
		}
		defer s.forget(e, used)
	} else {
		defer s.forget(e, nil)
	}
	had := e.elements
	s.flowsOf(e, had, want, c)
	for sl, val := range had {
		if _, still := want[sl]; !still {
			s.release(e, sl, val, c)
		}
	}
	e.applied = e.service
	for sl, val := range want {
		if old, there := had[sl]; !there || old != val {
			s.take(e, sl, val, old, there, c)
		}
	}
	e.elements = want
	if e.service == nil && len(e.slices) == 0 {
		delete(s.services, name)
	}
}

// number is the number of a list of endpoints of a Service: one made of its name, so that it is the same again after a
// restart, or the next free one.
func (s *state) number(e *entry, list string) uint32 {
	if n, ok := e.numbers[list]; ok {
		return n
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(e.service.name.String() + "/" + list))
	n := h.Sum32()
	for n == 0 || s.lists[n] != nil {
		n++
	}
	if e.numbers == nil {
		e.numbers = map[string]uint32{}
	}
	e.numbers[list], s.lists[n] = n, e
	return n
}

// forget sets the numbers free that a Service uses no more.
func (s *state) forget(e *entry, used map[string]bool) {
	for list, n := range e.numbers {
		if !used[list] {
			delete(e.numbers, list)
			delete(s.lists, n)
		}
	}
}

// take gives a Service a slot, or a place in the queue for it.
func (s *state) take(e *entry, sl slot, val, old string, there bool, c *changes) {
	if sl.kind.isFront() {
		s.shapes[shapeKey(val)]++
		if there {
			s.dropShape(old)
		}
	}
	if !sl.kind.shared() {
		c.set(sl, val, there)
		return
	}
	cl := s.slots[sl]
	switch {
	case cl == nil:
		s.slots[sl] = &claim{holder: e, val: val}
		c.set(sl, val, false)
	case cl.holder == e || e.applied.older(cl.holder.applied):
		if cl.holder != e {
			cl.waiting = append(slices.DeleteFunc(cl.waiting, func(w *entry) bool { return w == e }), cl.holder)
			cl.holder = e
		}
		if cl.val != val {
			cl.val = val
			c.set(sl, val, true)
		}
	case !slices.Contains(cl.waiting, e):
		cl.waiting = append(cl.waiting, e)
	}
}

// release takes a slot from a Service and gives it to the oldest of those that wait for it.
func (s *state) release(e *entry, sl slot, val string, c *changes) {
	if sl.kind.isFront() {
		s.dropShape(val)
	}
	cl := s.slots[sl]
	if !sl.kind.shared() || cl == nil {
		c.remove(sl)
		return
	}
	cl.waiting = slices.DeleteFunc(cl.waiting, func(w *entry) bool { return w == e })
	if cl.holder != e {
		return
	}
	if len(cl.waiting) == 0 {
		delete(s.slots, sl)
		c.remove(sl)
		return
	}
	next := slices.MinFunc(cl.waiting, func(a, b *entry) int {
		if a.applied.older(b.applied) {
			return -1
		}
		return 1
	})
	cl.waiting = slices.DeleteFunc(cl.waiting, func(w *entry) bool { return w == next })
	cl.holder = next
	if v := next.elements[sl]; v != cl.val {
		cl.val = v
		c.set(sl, v, true)
	}
}

func (s *state) dropShape(val string) {
	k := shapeKey(val)
	if s.shapes[k]--; s.shapes[k] <= 0 {
		delete(s.shapes, k)
	}
}

// all are all elements that the table must hold.
func (s *state) all() map[slot]string {
	out := map[slot]string{}
	for _, e := range s.services {
		for sl, val := range e.elements {
			if !sl.kind.shared() {
				out[sl] = val
			}
		}
	}
	for sl, cl := range s.slots {
		out[sl] = cl.val
	}
	return out
}

// flowsOf notes the UDP fronts of a Service that lead to other endpoints than before.
func (s *state) flowsOf(e *entry, had, want map[slot]string, c *changes) {
	before, after := udpFronts(had), udpFronts(want)
	if len(before)+len(after) == 0 {
		return
	}
	for f := range before {
		if _, still := after[f]; !still {
			c.flows[f] = map[netip.AddrPort]bool{}
		}
	}
	for f, now := range after {
		// What is new may have been sent to nowhere until now.
		old, known := before[f]
		gone := !known
		for at := range old {
			gone = gone || !now[at]
		}
		if gone || len(old) == 0 {
			c.flows[f] = now
		}
	}
}

// udpFronts are the UDP addresses and ports among elements, and the endpoints that each leads to.
func udpFronts(elements map[slot]string) map[frontOf]map[netip.AddrPort]bool {
	var out map[frontOf]map[netip.AddrPort]bool
	lists := map[string]map[netip.AddrPort]bool{}
	for sl, val := range elements {
		if sl.kind == endpoints {
			id := sl.key[:4]
			if lists[id] == nil {
				lists[id] = map[netip.AddrPort]bool{}
			}
			lists[id][addrPortOf(val)] = true
		}
	}
	for sl, val := range elements {
		f, udp := udpFront(sl)
		if !udp {
			continue
		}
		if out == nil {
			out = map[frontOf]map[netip.AddrPort]bool{}
		}
		if out[f] == nil {
			out[f] = map[netip.AddrPort]bool{}
		}
		if sl.kind.isFront() {
			for at := range lists[val[:4]] {
				out[f][at] = true
			}
		}
	}
	return out
}

// udpFront reads the address and port of an element's key; udp is false if it is not one of UDP.
func udpFront(sl slot) (f frontOf, udp bool) {
	f.v4 = sl.v4
	key := []byte(sl.key)
	var addr netip.Addr
	switch sl.kind {
	case byAddress, fromOutside, refused:
		addr, _ = netip.AddrFromSlice(key[:len(key)-8])
		key = key[len(key)-8:]
	case byNodePort, portFromOutside, refusedPorts:
	default:
		return f, false
	}
	f.at = netip.AddrPortFrom(addr, uint16(key[4])<<8|uint16(key[5]))
	return f, key[0] == unix.IPPROTO_UDP
}

// addrPortOf reads an address and port of an element.
func addrPortOf(raw string) netip.AddrPort {
	b := []byte(raw)
	addr, _ := netip.AddrFromSlice(b[:len(b)-4])
	return netip.AddrPortFrom(addr, uint16(b[len(b)-4])<<8|uint16(b[len(b)-3]))
}

// sorted are the slices of a Service in the order of their names.
func sorted(all map[string]*slice) []*slice {
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make([]*slice, len(names))
	for i, n := range names {
		out[i] = all[n]
	}
	return out
}
