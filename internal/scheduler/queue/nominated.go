package queue

import (
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// Nominated records which waiting Pods are nominated to a node on which room is being made. Those Pods count as
// being there when a Pod of no higher priority is decided on.
type Nominated struct {
	any    atomic.Bool
	mu     sync.RWMutex
	byNode map[string][]*framework.PodInfo
	nodeOf map[types.UID]string
}

// NewNominated returns an empty Nominated.
func NewNominated() *Nominated {
	return &Nominated{byNode: map[string][]*framework.PodInfo{}, nodeOf: map[types.UID]string{}}
}

// Set nominates the Pod to the node. "" removes the nomination.
func (n *Nominated) Set(p *framework.PodInfo, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removeLocked(p.Pod.UID)
	if node != "" {
		n.byNode[node] = append(n.byNode[node], p)
		n.nodeOf[p.Pod.UID] = node
	}
	n.any.Store(len(n.nodeOf) > 0)
}

// Remove removes the nomination of a Pod, if it has one.
func (n *Nominated) Remove(uid types.UID) {
	if !n.any.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removeLocked(uid)
	n.any.Store(len(n.nodeOf) > 0)
}

func (n *Nominated) removeLocked(uid types.UID) {
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

// NodeOf returns the node that the Pod is nominated to, or "" if there is none.
func (n *Nominated) NodeOf(uid types.UID) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.nodeOf[uid]
}

// On returns the Pods that are nominated to the node. The result must not be changed.
func (n *Nominated) On(node string) []*framework.PodInfo {
	if !n.any.Load() {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byNode[node]
}
