package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is what the collector remembers of an object. It is kept small: there is one for every object.
type node struct {
	kind            *kind
	namespace, name string
	uid             types.UID
	owners          []owner
	// deleting: the object has a deletionTimestamp. foreground and orphan: it has that finalizer.
	deleting, foreground, orphan bool
}

// owner is an owner reference of an object, as far as the graph needs it.
type owner struct {
	uid types.UID
	// blocks: the owner, deleted in the foreground, stays until this object is gone.
	blocks bool
}

// deletingDependents says whether the object waits for its dependents to be deleted.
func (n *node) deletingDependents() bool { return n.deleting && n.foreground }

// newNode reads an object.
func newNode(k *kind, o metav1.Object) *node {
	n := &node{
		kind: k, namespace: o.GetNamespace(), name: o.GetName(), uid: o.GetUID(),
		deleting:   o.GetDeletionTimestamp() != nil,
		foreground: slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents),
		orphan:     slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents),
	}
	for _, ref := range o.GetOwnerReferences() {
		n.owners = append(n.owners, owner{uid: ref.UID, blocks: ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion})
	}
	return n
}

// graph is who owns whom among all objects, by UID. An owner need not be in it to have dependents there.
// Its methods answer with the UIDs that a change makes worth a look.
type graph struct {
	mu         sync.RWMutex
	nodes      map[types.UID]*node
	dependents map[types.UID]map[types.UID]*node
}

func newGraph() *graph {
	return &graph{nodes: map[types.UID]*node{}, dependents: map[types.UID]map[types.UID]*node{}}
}

// set takes in the newest state of an object.
func (g *graph) set(n *node) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.nodes[n.uid]
	g.nodes[n.uid] = n
	var look []types.UID
	if old != nil {
		look = g.unlink(old)
	}
	for _, o := range n.owners {
		if g.dependents[o.uid] == nil {
			g.dependents[o.uid] = map[types.UID]*node{}
		}
		g.dependents[o.uid][n.uid] = n
	}
	switch {
	case n.deleting && (n.foreground || n.orphan):
		return append(look, n.uid)
	case n.deleting || len(n.owners) == 0:
		return look
	case old == nil || !slices.Equal(old.owners, n.owners):
		return append(look, g.doubtful(n)...)
	}
	return look
}

// doubtful answers with the node itself if any of its owners is not known, or is waiting for its dependents'
// end: then it may have to go.
func (g *graph) doubtful(n *node) []types.UID {
	for _, o := range n.owners {
		if have := g.nodes[o.uid]; have == nil || have.deletingDependents() {
			return []types.UID{n.uid}
		}
	}
	return nil
}

// remove takes an object out. Its dependents may have lost their last owner, and its owners their last
// dependent.
func (g *graph) remove(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	delete(g.nodes, uid)
	look := g.unlink(n)
	for dependent := range g.dependents[uid] {
		look = append(look, dependent)
	}
	return look
}

// unlink takes the node off its owners, and answers with those that wait for their dependents' end.
func (g *graph) unlink(n *node) []types.UID {
	var look []types.UID
	for _, o := range n.owners {
		delete(g.dependents[o.uid], n.uid)
		if len(g.dependents[o.uid]) == 0 {
			delete(g.dependents, o.uid)
		}
		if have := g.nodes[o.uid]; have != nil && have.deletingDependents() {
			look = append(look, o.uid)
		}
	}
	return look
}

// replace takes in a full list of one kind: what is not in it is gone.
func (g *graph) replace(k *kind, all []*node) []types.UID {
	var look []types.UID
	listed := make(map[types.UID]bool, len(all))
	for _, n := range all {
		listed[n.uid] = true
		look = append(look, g.set(n)...)
	}
	for _, uid := range g.ofKind(k) {
		if !listed[uid] {
			look = append(look, g.remove(uid)...)
		}
	}
	return look
}

func (g *graph) ofKind(k *kind) []types.UID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []types.UID
	for uid, n := range g.nodes {
		if n.kind == k {
			out = append(out, uid)
		}
	}
	return out
}

// get answers with an object, or nil, and its dependents.
func (g *graph) get(uid types.UID) (*node, []*node) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	n := g.nodes[uid]
	if n == nil {
		return nil, nil
	}
	dependents := make([]*node, 0, len(g.dependents[uid]))
	for _, d := range g.dependents[uid] {
		dependents = append(dependents, d)
	}
	return n, dependents
}

// unsettled answers with the objects that a first full view of the graph leaves in doubt.
func (g *graph) unsettled() []types.UID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []types.UID
	for uid, n := range g.nodes {
		if n.deleting && (n.foreground || n.orphan) {
			out = append(out, uid)
		} else if !n.deleting {
			out = append(out, g.doubtful(n)...)
		}
	}
	return out
}

// blocks says whether the dependent holds up the foreground deletion of the owner.
func (n *node) blocks(uid types.UID) bool {
	return slices.ContainsFunc(n.owners, func(o owner) bool { return o.uid == uid && o.blocks })
}
