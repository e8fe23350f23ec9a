package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeInfo is a node and what is on it. What a snapshot holds is never changed: a change is made on a clone.
type NodeInfo struct {
	Node *corev1.Node
	// Pods are those on the node, bound or about to be.
	Pods []*PodInfo
	// Classes counts the Pods by class.
	Classes []ClassCount
	// Affinity counts the Pods that have any term about other Pods, AntiAffinity those with required
	// anti-affinity.
	Affinity, AntiAffinity int
	// Allocatable is what the node has to give, Requested what its Pods take of it. ScoreRequested is what
	// they count for in scores.
	Allocatable, Requested, ScoreRequested Resource
	// HostPorts are those taken.
	HostPorts []HostPort
	// Images are the sizes in bytes of the images on the node, by each of their names.
	Images map[string]int64
}

// ClassCount is how many Pods are of a class.
type ClassCount struct {
	Class *Class
	N     int
}

// NewNodeInfo makes an empty node.
func NewNodeInfo() *NodeInfo { return &NodeInfo{} }

// SetNode takes in the node's newest state, and says whether its images are others than before.
func (n *NodeInfo) SetNode(node *corev1.Node) (newImages bool) {
	newImages = n.Images == nil || !slices.EqualFunc(n.Node.Status.Images, node.Status.Images, sameImage)
	if newImages {
		n.Images = imagesOf(node)
	}
	n.Node = node
	n.Allocatable = NewResource(node.Status.Allocatable)
	return newImages
}

// Clone answers with a copy whose Pods can be changed.
func (n *NodeInfo) Clone() *NodeInfo {
	c := *n
	c.Pods = slices.Clone(n.Pods)
	c.Classes = slices.Clone(n.Classes)
	c.HostPorts = slices.Clone(n.HostPorts)
	c.Requested, c.ScoreRequested = n.Requested.Clone(), n.ScoreRequested.Clone()
	return &c
}

// AddPod puts a Pod on the node.
func (n *NodeInfo) AddPod(p *PodInfo) {
	n.Pods = append(n.Pods, p)
	n.count(p.Class, 1)
	n.HostPorts = append(n.HostPorts, p.HostPorts...)
	n.Requested.Add(&p.Request, 1)
	n.ScoreRequested.Add(&p.ScoreRequest, 1)
}

// RemovePod takes a Pod off the node and says whether it was there.
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

// count counts a Pod of the class in (1) or out (-1).
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
