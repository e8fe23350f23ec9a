// Package cache keeps what the scheduler knows about nodes and the Pods on them, and provides a snapshot of it
// for each decision.
//
// A Pod counts as being on its node from the moment the decision is made (it is assumed), long before the API
// server confirms the binding, so that the next decision does not give the same room away again. Snapshots
// share their nodes with the cache: a node is cloned before it is changed, and updating a snapshot replaces the
// nodes that changed since the last update.
package cache

import (
	"fmt"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// Cache is safe for use by many goroutines.
type Cache struct {
	mu    sync.Mutex
	nodes map[string]*node
	pods  map[types.UID]*placed
	order order
	// images counts the nodes that have each image. When it is shared with a snapshot it must be cloned before
	// it is changed.
	images       map[string]int
	imagesShared bool
	// changed are the nodes whose newest state the snapshot does not have. reordered is set when the snapshot
	// holds the wrong nodes, or holds them in the wrong order.
	changed   map[string]bool
	reordered bool
}

// node is a node, or what is left of one: Pods may be known before their node and may outlive it. Such a node
// has no Node and is in no snapshot.
type node struct {
	info *framework.NodeInfo
	// shared is set when the snapshot has this info; it must then be cloned before it is changed.
	shared bool
}

// placed is a Pod on a node.
type placed struct {
	info    *framework.PodInfo
	node    string
	assumed bool
}

// New returns an empty cache. It serves one snapshot.
func New() *Cache {
	return &Cache{
		nodes: map[string]*node{}, pods: map[types.UID]*placed{},
		images: map[string]int{}, changed: map[string]bool{}, order: newOrder(),
	}
}

// SetNode records a node's newest state.
func (c *Cache) SetNode(n *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.writableLocked(n.Name)
	before := info.Images
	if c.order.set(n) {
		c.reordered = true
	}
	if info.SetNode(n) {
		c.countImagesLocked(before, -1)
		c.countImagesLocked(info.Images, 1)
	}
}

// RemoveNode removes a node. Its Pods stay known until they are removed themselves.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[name] == nil {
		return
	}
	info := c.writableLocked(name)
	c.countImagesLocked(info.Images, -1)
	info.Node, info.Images = nil, nil
	c.order.remove(name)
	c.reordered = true
	c.dropLocked(name)
}

// SetPod records the newest state of a Pod that is on a node. It confirms a Pod that was assumed there, and
// corrects one that was assumed elsewhere. It returns the previous state, or nil if there was none.
func (c *Cache) SetPod(p *framework.PodInfo) *framework.PodInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[p.Pod.UID]
	if have != nil && have.node == p.Pod.Spec.NodeName && framework.SameOnNode(have.info, p) {
		have.assumed = false
		return have.info
	}
	before := c.unplaceLocked(p.Pod.UID)
	c.placeLocked(p, p.Pod.Spec.NodeName, false)
	return before
}

// RemovePod removes a Pod that was deleted or has ended. It returns the Pod's last state, or nil if it was on
// no node.
func (c *Cache) RemovePod(uid types.UID) *framework.PodInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unplaceLocked(uid)
}

// Assume counts a Pod as being on the node. It returns an error if the Pod is on a node already.
func (c *Cache) Assume(p *framework.PodInfo, nodeName string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.pods[p.Pod.UID]; have != nil {
		return fmt.Errorf("assume pod %s on node %s: it is already on node %s", p.Name(), nodeName, have.node)
	}
	c.placeLocked(p, nodeName, true)
	return nil
}

// Forget undoes an Assume. It reports false for a Pod that was confirmed in the meantime, which stays.
func (c *Cache) Forget(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[uid]
	if have == nil || !have.assumed {
		return false
	}
	c.unplaceLocked(uid)
	return true
}

// NodeOf returns the node that a Pod is on or assumed to be on, or "" if there is none.
func (c *Cache) NodeOf(uid types.UID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.pods[uid]; have != nil {
		return have.node
	}
	return ""
}

// Update brings the snapshot up to date. It must always be given the same snapshot, and the caller must not use
// that snapshot in two decisions at a time.
func (c *Cache) Update(s *framework.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reordered {
		names := c.order.names()
		all := make([]*framework.NodeInfo, 0, len(names))
		for _, name := range names {
			all = append(all, c.shareLocked(name))
		}
		s.SetAll(all)
	} else {
		for name := range c.changed {
			if i, ok := s.Index[name]; ok {
				s.Set(i, c.shareLocked(name))
			}
		}
	}
	s.ImageNodes, c.imagesShared = c.images, true
	c.reordered = false
	clear(c.changed)
}

// Copy returns a new snapshot, for a reader other than the one that Update serves.
func (c *Cache) Copy() *framework.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := framework.NewSnapshot()
	names := c.order.names()
	all := make([]*framework.NodeInfo, 0, len(names))
	for _, name := range names {
		all = append(all, c.shareLocked(name))
	}
	s.SetAll(all)
	s.ImageNodes, c.imagesShared = c.images, true
	return s
}

// shareLocked returns a node's info. From now on it must be cloned before it is changed.
func (c *Cache) shareLocked(name string) *framework.NodeInfo {
	n := c.nodes[name]
	n.shared = true
	return n.info
}

// writableLocked returns a node's info for a change and marks the node as changed.
func (c *Cache) writableLocked(name string) *framework.NodeInfo {
	n := c.nodes[name]
	if n == nil {
		n = &node{info: framework.NewNodeInfo()}
		c.nodes[name] = n
	}
	if n.shared {
		n.info, n.shared = n.info.Clone(), false
	}
	c.changed[name] = true
	return n.info
}

func (c *Cache) placeLocked(p *framework.PodInfo, nodeName string, assumed bool) {
	c.pods[p.Pod.UID] = &placed{info: p, node: nodeName, assumed: assumed}
	c.writableLocked(nodeName).AddPod(p)
}

func (c *Cache) unplaceLocked(uid types.UID) *framework.PodInfo {
	have := c.pods[uid]
	if have == nil {
		return nil
	}
	delete(c.pods, uid)
	c.writableLocked(have.node).RemovePod(uid)
	c.dropLocked(have.node)
	return have.info
}

// dropLocked forgets a node that was deleted and has no Pods left.
func (c *Cache) dropLocked(name string) {
	if info := c.nodes[name].info; info.Node == nil && len(info.Pods) == 0 {
		delete(c.nodes, name)
		delete(c.changed, name)
	}
}

// countImagesLocked adds (sign 1) or removes (sign -1) the images of one node.
func (c *Cache) countImagesLocked(names map[string]int64, sign int) {
	if len(names) == 0 {
		return
	}
	if c.imagesShared {
		c.images, c.imagesShared = maps.Clone(c.images), false
	}
	for name := range names {
		if c.images[name] += sign; c.images[name] == 0 {
			delete(c.images, name)
		}
	}
}
