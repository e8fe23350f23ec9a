package framework

// Snapshot is the cluster at one moment: what one decision sees. It is filled by the cache and not changed
// while a decision uses it.
type Snapshot struct {
	// Nodes are in an order that takes from each zone in turn.
	Nodes []*NodeInfo
	// Index is the place of each node in Nodes, by name.
	Index map[string]int
	// ImageNodes says on how many nodes an image is, by name.
	ImageNodes map[string]int
	// affinity and antiAffinity count the nodes with such Pods.
	affinity, antiAffinity int
}

// NewSnapshot makes an empty one.
func NewSnapshot() *Snapshot {
	return &Snapshot{Index: map[string]int{}, ImageNodes: map[string]int{}}
}

// Get answers with a node, or nil.
func (s *Snapshot) Get(name string) *NodeInfo {
	if i, ok := s.Index[name]; ok {
		return s.Nodes[i]
	}
	return nil
}

// Set replaces a node that is in the snapshot.
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

// AnyAffinity says whether some Pod of some node has a term about other Pods, AnyAntiAffinity whether some
// Pod has required anti-affinity.
func (s *Snapshot) AnyAffinity() bool     { return s.affinity > 0 }
func (s *Snapshot) AnyAntiAffinity() bool { return s.antiAffinity > 0 }
