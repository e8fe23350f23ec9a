package framework

// Snapshot is the cluster at one moment, as one decision sees it. The cache fills it; it does not change during
// a decision.
type Snapshot struct {
	// Nodes are ordered so that zones take turns.
	Nodes []*NodeInfo
	// Index maps a node's name to its place in Nodes.
	Index map[string]int
	// ImageNodes counts the nodes that have an image, by the image's name.
	ImageNodes map[string]int
	// affinity and antiAffinity count the nodes with Pods of these kinds.
	affinity, antiAffinity int
}

// NewSnapshot returns an empty snapshot.
func NewSnapshot() *Snapshot {
	return &Snapshot{Index: map[string]int{}, ImageNodes: map[string]int{}}
}

// Get returns a node, or nil if it is not in the snapshot.
func (s *Snapshot) Get(name string) *NodeInfo {
	if i, ok := s.Index[name]; ok {
		return s.Nodes[i]
	}
	return nil
}

// Set replaces the i-th node.
func (s *Snapshot) Set(i int, n *NodeInfo) {
	s.count(s.Nodes[i], -1)
	s.count(n, 1)
	s.Nodes[i] = n
}

// SetAll replaces all nodes.
func (s *Snapshot) SetAll(nodes []*NodeInfo) {
	s.Nodes = nodes
	s.affinity, s.antiAffinity = 0, 0
	clear(s.Index)
	for i, n := range nodes {
		s.Index[n.Node.Name] = i
		s.count(n, 1)
	}
}

func (s *Snapshot) count(n *NodeInfo, sign int) {
	if n == nil {
		return
	}
	if n.Affinity > 0 {
		s.affinity += sign
	}
	if n.AntiAffinity > 0 {
		s.antiAffinity += sign
	}
}

// AnyAffinity reports whether any Pod on any node has a term about other Pods, AnyAntiAffinity whether any Pod
// has required anti-affinity.
func (s *Snapshot) AnyAffinity() bool     { return s.affinity > 0 }
func (s *Snapshot) AnyAntiAffinity() bool { return s.antiAffinity > 0 }
