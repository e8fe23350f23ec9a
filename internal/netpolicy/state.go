package netpolicy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// pod is a Pod as policies see it: one with addresses of its own.
type pod struct {
	namespace string
	labels    labels.Set
	addrs     []netip.Addr
	ports     []containerPort
	// links are the node's ends of its links; none for a Pod of another node. Policies are enforced where a Pod runs.
	links []string
}

type containerPort struct {
	namedPort
	number uint16
}

// element is one of a set of the table. chain is where the elements of verdict maps lead.
type element struct{ set, key, chain string }

// group is the chain of the Pods that the same policies isolate in one direction.
type group struct {
	direction direction
	policies  []*policy
	pods      int
}

// state is what is known of the cluster, and the table that follows from it. It does no I/O. After a change of a Pod only that
// Pod's part of the table is computed; after a change of a policy or of a namespace's labels, all of it.
type state struct {
	families   []family
	namespaces map[string]labels.Set
	policies   map[types.NamespacedName]*policy
	pods       map[types.UID]pod

	// closed are the sides of policies that ask for more than their namespace may have: they allow nothing.
	closed map[types.NamespacedName]bool
	// selecting are the policies of a namespace, sorted by name; peers are those of all policies, by key.
	selecting map[string][]*policy
	peers     map[string]peer
	named     map[namedPort]bool
	groups    map[string]*group
	parts     map[types.UID]part
	sets      map[string]map[string]*count
	// touched are the elements that changed since the last flush, with where they led before; reshaped is set when more than
	// elements changed.
	touched  map[element]*string
	reshaped bool
}

// part is what the table has because of one Pod.
type part struct {
	elements []element
	groups   map[string]*group
}

// count is an element and how many Pods need it.
type count struct {
	chain string
	n     int
}

func newState(families []family) *state {
	s := &state{
		families: families, namespaces: map[string]labels.Set{}, policies: map[types.NamespacedName]*policy{}, pods: map[types.UID]pod{},
	}
	s.rebuild()
	return s
}

// rebuild computes all that follows from what is known.
func (s *state) rebuild() {
	s.closed, s.selecting, s.peers, s.named = map[types.NamespacedName]bool{}, map[string][]*policy{}, map[string]peer{}, map[namedPort]bool{}
	s.groups, s.parts, s.sets, s.touched, s.reshaped = map[string]*group{}, map[types.UID]part{}, map[string]map[string]*count{}, map[element]*string{}, true
	names := slices.SortedFunc(maps.Keys(s.policies), func(a, b types.NamespacedName) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	rules, peers := map[string]int{}, map[string]int{}
	for _, name := range names {
		p := s.policies[name]
		s.selecting[name.Namespace] = append(s.selecting[name.Namespace], p)
		rules[name.Namespace] += p.rules(s.families)
		for _, r := range p.allRules() {
			peers[name.Namespace] += len(r.peers)
		}
		if rules[name.Namespace] > maxRules || peers[name.Namespace] > maxPeers {
			s.closed[name] = true
			continue
		}
		for _, r := range p.allRules() {
			for _, peer := range r.peers {
				s.peers[peer.key()] = peer
			}
			for _, n := range r.named {
				s.named[n] = true
			}
		}
	}
	for uid := range s.pods {
		s.place(uid)
	}
}

func (p *policy) allRules() []rule {
	var all []rule
	for _, side := range p.sides {
		if side != nil {
			all = append(all, side.rules...)
		}
	}
	return all
}

// setPod takes note of a Pod as it is now.
func (s *state) setPod(uid types.UID, p pod) {
	s.displace(uid)
	s.pods[uid] = p
	s.place(uid)
}

// deletePod forgets a Pod.
func (s *state) deletePod(uid types.UID) {
	s.displace(uid)
	delete(s.pods, uid)
}

// place adds a Pod's part to the table.
func (s *state) place(uid types.UID) {
	pt := s.partOf(s.pods[uid])
	s.parts[uid] = pt
	for name, g := range pt.groups {
		if s.groups[name] == nil {
			s.groups[name], s.reshaped = g, true
		}
		s.groups[name].pods++
	}
	for _, e := range pt.elements {
		if s.sets[e.set] == nil {
			s.sets[e.set] = map[string]*count{}
		}
		c := s.sets[e.set][e.key]
		if c == nil {
			c = &count{}
			s.sets[e.set][e.key] = c
			s.touch(e, nil)
		} else if c.chain != e.chain {
			s.touch(e, new(c.chain))
		}
		c.chain = e.chain
		c.n++
	}
}

// displace takes a Pod's part from the table.
func (s *state) displace(uid types.UID) {
	pt := s.parts[uid]
	for name := range pt.groups {
		if s.groups[name].pods--; s.groups[name].pods == 0 {
			delete(s.groups, name)
			s.reshaped = true
		}
	}
	for _, e := range pt.elements {
		c := s.sets[e.set][e.key]
		if c.n--; c.n == 0 {
			delete(s.sets[e.set], e.key)
			s.touch(e, new(c.chain))
		}
	}
	delete(s.parts, uid)
}

// touch notes that an element changes, and what it was before it first did.
func (s *state) touch(e element, before *string) {
	e.chain = ""
	if _, known := s.touched[e]; !known {
		s.touched[e] = before
	}
}

// flushed notes that the table is what the state says.
func (s *state) flushed() { s.touched, s.reshaped = map[element]*string{}, false }

// partOf computes a Pod's part.
func (s *state) partOf(p pod) part {
	pt := part{groups: map[string]*group{}}
	p.addrs = slices.DeleteFunc(slices.Clone(p.addrs), func(a netip.Addr) bool { return !slices.Contains(s.families, familyOf(a)) })
	for _, peer := range s.peers {
		if !s.selects(peer, p) {
			continue
		}
		for _, a := range p.addrs {
			pt.elements = append(pt.elements, element{set: peerSet(peer, familyOf(a)), key: string(a.AsSlice())})
		}
	}
	for _, c := range p.ports {
		if !s.named[c.namedPort] {
			continue
		}
		for _, a := range p.addrs {
			pt.elements = append(pt.elements, element{set: namedSet(c.namedPort, familyOf(a)), key: string(portKey(a, c.number))})
		}
	}
	if len(p.links) == 0 {
		return pt
	}
	for _, d := range []direction{ingress, egress} {
		var isolating []*policy
		for _, policy := range s.selecting[p.namespace] {
			if policy.sides[d] != nil && policy.pods.Matches(p.labels) {
				isolating = append(isolating, policy)
			}
		}
		if len(isolating) == 0 {
			continue
		}
		name := groupChain(d, isolating)
		pt.groups[name] = &group{direction: d, policies: isolating}
		for _, a := range p.addrs {
			pt.elements = append(pt.elements, element{isolatedMap(d, familyOf(a)), string(a.AsSlice()), name})
		}
		for _, link := range p.links {
			pt.elements = append(pt.elements, element{set: closedLinks(d), key: link})
		}
	}
	return pt
}

// isolated reports whether a policy selects the Pod.
func (s *state) isolated(uid types.UID) bool { return len(s.parts[uid].groups) > 0 }

func (s *state) selects(p peer, of pod) bool {
	if p.namespaces == nil {
		return p.namespace == of.namespace && p.pods.Matches(of.labels)
	}
	namespace := s.namespaces[of.namespace]
	if namespace == nil {
		// Not seen yet: the label that each has.
		namespace = labels.Set{corev1.LabelMetadataName: of.namespace}
	}
	return p.namespaces.Matches(namespace) && p.pods.Matches(of.labels)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func peerSet(p peer, f family) string { return fmt.Sprintf("peer%s-%s", f, digest(p.key())) }

func namedSet(p namedPort, f family) string { return fmt.Sprintf("named%s-%s", f, p) }

func isolatedMap(d direction, f family) string { return fmt.Sprintf("isolated-%s%s", d, f) }

func closedLinks(d direction) string { return "closed-" + d.String() }

func groupChain(d direction, policies []*policy) string {
	var names strings.Builder
	for _, p := range policies {
		names.WriteString(p.name.String() + "\n")
	}
	return fmt.Sprintf("group-%s-%s", d, digest(names.String()))
}

func policyChain(d direction, name types.NamespacedName) string {
	short := name.Name
	if len(short) > 40 {
		short = short[:40]
	}
	return fmt.Sprintf("%s-%s-%s-%s", d, name.Namespace, short, digest(name.String())[:8])
}
