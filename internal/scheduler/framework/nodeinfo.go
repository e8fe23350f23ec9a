package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeInfo is a node and what is on it. A NodeInfo in a snapshot is never changed: changes are made to a clone.
type NodeInfo struct {
	Node *corev1.Node
	// Pods are the Pods on the node, bound or about to be bound.
	Pods []*PodInfo
	// Classes counts the Pods by class.
	Classes []ClassCount
	// Affinity counts the Pods that have any term about other Pods, AntiAffinity those that have required
	// anti-affinity.
	Affinity, AntiAffinity int
	// Allocatable is what the node offers, Requested the sum of the Pods' requests. ScoreRequested is the sum
	// that scores use.
	Allocatable, Requested, ScoreRequested Resource
	// HostPorts are the ports in use.
	HostPorts []HostPort
	// Images maps each name of an image on the node to the image's size in bytes.
	Images map[string]int64
}

// ClassCount is the number of Pods of a class.
type ClassCount struct {
	Class *Class
	N     int
}

// NewNodeInfo returns an empty node.
func NewNodeInfo() *NodeInfo { return &NodeInfo{} }

// SetNode records the node's newest state and reports whether its images changed.
func (n *NodeInfo) SetNode(node *corev1.Node) (newImages bool) {
	newImages = n.Images == nil || !slices.EqualFunc(n.Node.Status.Images, node.Status.Images, sameImage)
	if newImages {
		n.Images = imagesOf(node)
	}
	n.Node = node
	n.Allocatable = NewResource(node.Status.Allocatable)
	return newImages
}

// Clone returns a copy whose Pods can be changed.
func (n *NodeInfo) Clone() *NodeInfo {
	c := *n
	c.Pods = slices.Clone(n.Pods)
	c.Classes = slices.Clone(n.Classes)
	c.HostPorts = slices.Clone(n.HostPorts)
	c.Requested, c.ScoreRequested = n.Requested.Clone(), n.ScoreRequested.Clone()
	return &c
}

// AddPod adds a Pod to the node.
func (n *NodeInfo) AddPod(p *PodInfo) {
	n.Pods = append(n.Pods, p)
	n.count(p.Class, 1)
	n.HostPorts = append(n.HostPorts, p.HostPorts...)
	n.Requested.Add(&p.Request, 1)
	n.ScoreRequested.Add(&p.ScoreRequest, 1)
}

// RemovePod removes a Pod from the node and reports whether it was there.
func (n *NodeInfo) RemovePod(uid types.UID) bool {
	i := slices.IndexFunc(n.Pods, hasUID(uid))
	if i < 0 {
		return false
	}
	p := n.Pods[i]
	last := len(n.Pods) - 1
	n.Pods[i] = n.Pods[last] // the order does not matter
	n.Pods[last] = nil
	n.Pods = n.Pods[:last]
	n.count(p.Class, -1)
	for _, port := range p.HostPorts {
		if at := slices.Index(n.HostPorts, port); at >= 0 {
			n.HostPorts = slices.Delete(n.HostPorts, at, at+1)
		}
	}
	n.Requested.Add(&p.Request, -1)
	n.ScoreRequested.Add(&p.ScoreRequest, -1)
	return true
}

// count adds (sign 1) or removes (sign -1) one Pod of the class.
func (n *NodeInfo) count(c *Class, sign int) {
	if c.HasAffinity() {
		n.Affinity += sign
	}
	if len(c.AntiAffinity) > 0 {
		n.AntiAffinity += sign
	}
	i := slices.IndexFunc(n.Classes, func(cc ClassCount) bool { return cc.Class == c })
	if i < 0 {
		n.Classes = append(n.Classes, ClassCount{c, sign})
		return
	}
	if n.Classes[i].N += sign; n.Classes[i].N == 0 {
		n.Classes = slices.Delete(n.Classes, i, i+1)
	}
}

func hasUID(uid types.UID) func(*PodInfo) bool {
	return func(p *PodInfo) bool { return p.Pod.UID == uid }
}

func imagesOf(node *corev1.Node) map[string]int64 {
	out := make(map[string]int64, 2*len(node.Status.Images))
	for _, image := range node.Status.Images {
		for _, name := range image.Names {
			out[name] = image.SizeBytes
		}
	}
	return out
}

func sameImage(a, b corev1.ContainerImage) bool {
	return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
}
