package queue

import (
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// Nominated remembers which waiting Pods have been promised a node on which room is being made. Those Pods
// count as being there when a Pod of no higher priority looks for room.
type Nominated struct {
	any    atomic.Bool
	mu     sync.RWMutex
	byNode map[string][]*framework.PodInfo
	nodeOf map[types.UID]string
}

// NewNominated makes an empty one.
func NewNominated() *Nominated {
	return &Nominated{byNode: map[string][]*framework.PodInfo{}, nodeOf: map[types.UID]string{}}
}

// Set promises the node to the Pod; "" takes the promise back.
func (n *Nominated) Set(p *framework.PodInfo, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(p.Pod.UID)
	if node != "" {
		n.byNode[node] = append(n.byNode[node], p)
		n.nodeOf[p.Pod.UID] = node
	}
	n.any.Store(len(n.nodeOf) > 0)
}

// Remove takes the promise to a Pod back, whatever it was.
func (n *Nominated) Remove(uid types.UID) {
	if !n.any.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(uid)
	n.any.Store(len(n.nodeOf) > 0)
}

func (n *Nominated) remove(uid types.UID) {
	node, ok := n.nodeOf[uid]
	if !ok {
		return
	}
	delete(n.nodeOf, uid)
	left := slices.DeleteFunc(slices.Clone(n.byNode[node]), func(p *framework.PodInfo) bool { return p.Pod.UID == uid })
	if len(left) == 0 {
		delete(n.byNode, node)
		return
	}
	n.byNode[node] = left
}

// NodeOf answers with the node promised to the Pod, "" for none.
func (n *Nominated) NodeOf(uid types.UID) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.nodeOf[uid]
}

// On answers with the Pods to which the node is promised. The answer must not be changed.
func (n *Nominated) On(node string) []*framework.PodInfo {
	if !n.any.Load() {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byNode[node]
}
