// Package cache keeps what the scheduler knows of nodes and of the Pods on them, and gives a snapshot of it
// for each decision.
//
// A Pod for which a node was found counts as being there from that moment (it is assumed), long before the
// API server has confirmed the binding, so that the next decision does not give the same room away again.
// Snapshots share their nodes with the cache: a node is cloned before it is changed, and a snapshot is
// brought up to date by replacing the nodes that changed since.
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
	// images counts the nodes that have each image; when shared with a snapshot, it must be cloned before
	// it is changed.
	images       map[string]int
	imagesShared bool
	// changed are the nodes that the snapshot does not have in their newest state; reordered says that it
	// has not the right nodes, or not in the right order.
	changed   map[string]bool
	reordered bool
}

// node is a node, or what is left of one: Pods may be known before their node and outlive it. Such a node
// has no Node and is in no snapshot.
type node struct {
	info *framework.NodeInfo
	// shared: the snapshot has this info, so it must be cloned before it is changed.
	shared bool
}

// placed is a Pod on a node.
type placed struct {
	info    *framework.PodInfo
	node    string
	assumed bool
}

// New makes an empty cache. It serves one snapshot.
func New() *Cache {
	return &Cache{
		nodes: map[string]*node{}, pods: map[types.UID]*placed{},
		images: map[string]int{}, changed: map[string]bool{}, order: newOrder(),
	}
}

// SetNode takes in a node's newest state.
func (c *Cache) SetNode(n *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.writable(n.Name)
	before := info.Images
	if c.order.set(n) {
		c.reordered = true
	}
	if info.SetNode(n) {
		c.countImages(before, -1)
		c.countImages(info.Images, 1)
	}
}

// RemoveNode takes a node out. Its Pods stay known until they are removed themselves.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[name] == nil {
		return
	}
	info := c.writable(name)
	c.countImages(info.Images, -1)
	info.Node, info.Images = nil, nil
	c.order.remove(name)
	c.reordered = true
	c.drop(name)
}

// SetPod takes in the newest state of a Pod that is on a node. It confirms one that was assumed there, and
// corrects one that was assumed elsewhere. It answers with the state before, nil when there was none.
func (c *Cache) SetPod(p *framework.PodInfo) *framework.PodInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[p.Pod.UID]
	if have != nil && have.node == p.Pod.Spec.NodeName && framework.SameOnNode(have.info, p) {
		have.assumed = false
		return have.info
	}
	before := c.unplace(p.Pod.UID)
	c.place(p, p.Pod.Spec.NodeName, false)
	return before
}

// RemovePod takes out a Pod that is gone or has ended, and answers with its last state, nil when it was on no
// node.
func (c *Cache) RemovePod(uid types.UID) *framework.PodInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unplace(uid)
}

// Assume counts a Pod as being on the node. It fails for a Pod that is on a node already.
func (c *Cache) Assume(p *framework.PodInfo, nodeName string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.pods[p.Pod.UID]; have != nil {
		return fmt.Errorf("assume pod %s on node %s: it is on node %s already", p.Name(), nodeName, have.node)
	}
	c.place(p, nodeName, true)
	return nil
}

// Forget takes back an Assume. A Pod that was confirmed in the meantime stays, which the answer false says.
func (c *Cache) Forget(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[uid]
	if have == nil || !have.assumed {
		return false
	}
	c.unplace(uid)
	return true
}

// NodeOf answers with the node that a Pod is on or assumed to be on, "" for none.
func (c *Cache) NodeOf(uid types.UID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.pods[uid]; have != nil {
		return have.node
	}
	return ""
}

// Update brings the snapshot up to date. It is always the same snapshot; the caller must not use it in two
// decisions at a time.
func (c *Cache) Update(s *framework.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reordered {
		names := c.order.names()
		all := make([]*framework.NodeInfo, 0, len(names))
		for _, name := range names {
			all = append(all, c.share(name))
		}
		s.SetAll(all)
	} else {
		for name := range c.changed {
			if i, ok := s.Index[name]; ok {
				s.Set(i, c.share(name))
			}
		}
	}
	s.ImageNodes, c.imagesShared = c.images, true
	c.reordered = false
	clear(c.changed)
}

// Copy answers with a snapshot of its own, for a reader other than the one that Update serves.
func (c *Cache) Copy() *framework.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := framework.NewSnapshot()
	names := c.order.names()
	all := make([]*framework.NodeInfo, 0, len(names))
	for _, name := range names {
		all = append(all, c.share(name))
	}
	s.SetAll(all)
	s.ImageNodes, c.imagesShared = c.images, true
	return s
}

// share answers with a node's info, which must from now on be cloned before it is changed.
func (c *Cache) share(name string) *framework.NodeInfo {
	n := c.nodes[name]
	n.shared = true
	return n.info
}

// writable answers with a node's info for a change, and makes it known as changed.
func (c *Cache) writable(name string) *framework.NodeInfo {
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

func (c *Cache) place(p *framework.PodInfo, nodeName string, assumed bool) {
	c.pods[p.Pod.UID] = &placed{info: p, node: nodeName, assumed: assumed}
	c.writable(nodeName).AddPod(p)
}

func (c *Cache) unplace(uid types.UID) *framework.PodInfo {
	have := c.pods[uid]
	if have == nil {
		return nil
	}
	delete(c.pods, uid)
	c.writable(have.node).RemovePod(uid)
	c.drop(have.node)
	return have.info
}

// drop forgets a node that is gone and has no Pods any more.
func (c *Cache) drop(name string) {
	if info := c.nodes[name].info; info.Node == nil && len(info.Pods) == 0 {
		delete(c.nodes, name)
		delete(c.changed, name)
	}
}

// countImages counts the images of one node in or out.
func (c *Cache) countImages(names map[string]int64, sign int) {
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
