package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is what the collector remembers of an object. It is small because there is one for every object.
type node struct {
	kind            *kind
	namespace, name string
	uid             types.UID
	owners          []owner
	// deleting is set if the object has a deletionTimestamp, foreground and orphan if it has that finalizer.
	deleting, foreground, orphan bool
}

// owner is an owner reference of an object, as far as the graph needs it.
type owner struct {
	uid types.UID
	// blocks is set if an owner that is deleted in the foreground must wait for this object.
	blocks bool
}

// deletingDependents reports whether the object waits for its dependents to be deleted.
func (n *node) deletingDependents() bool { return n.deleting && n.foreground }

// newNode returns the node of an object.
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

// graph holds the owner references of all objects, by UID. It may hold dependents of an owner that is not in
// it. Its methods return the UIDs of the objects to look at after a change.
type graph struct {
	mu         sync.RWMutex
	nodes      map[types.UID]*node
	dependents map[types.UID]map[types.UID]*node
}

func newGraph() *graph {
	return &graph{nodes: map[types.UID]*node{}, dependents: map[types.UID]map[types.UID]*node{}}
}

// set records the newest state of an object.
func (g *graph) set(n *node) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.nodes[n.uid]
	g.nodes[n.uid] = n
	var look []types.UID
	if old != nil {
		look = g.unlinkLocked(old)
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
		return append(look, g.doubtfulLocked(n)...)
	}
	return look
}

// doubtfulLocked returns the node's UID if any of its owners is unknown or waits for its dependents: the node
// may then have to be deleted.
func (g *graph) doubtfulLocked(n *node) []types.UID {
	for _, o := range n.owners {
		if have := g.nodes[o.uid]; have == nil || have.deletingDependents() {
			return []types.UID{n.uid}
		}
	}
	return nil
}

// remove removes an object. Its dependents may have lost their last owner, and its owners their last dependent.
func (g *graph) remove(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	delete(g.nodes, uid)
	look := g.unlinkLocked(n)
	for dependent := range g.dependents[uid] {
		look = append(look, dependent)
	}
	return look
}

// unlinkLocked removes the node from its owners' dependents, and returns the owners that wait for their
// dependents.
func (g *graph) unlinkLocked(n *node) []types.UID {
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

// replace sets the full list of one kind. Objects that are not in it are removed.
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

// get returns an object, or nil, and its dependents.
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

// unsettled returns the objects that are in doubt once the graph is complete.
func (g *graph) unsettled() []types.UID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []types.UID
	for uid, n := range g.nodes {
		if n.deleting && (n.foreground || n.orphan) {
			out = append(out, uid)
		} else if !n.deleting {
			out = append(out, g.doubtfulLocked(n)...)
		}
	}
	return out
}

// blocks reports whether the dependent blocks the foreground deletion of the owner.
func (n *node) blocks(uid types.UID) bool {
	return slices.ContainsFunc(n.owners, func(o owner) bool { return o.uid == uid && o.blocks })
}
