package profile

import (
	"runtime"
	"sync"
	"sync/atomic"

	"podium.dev/podium/internal/scheduler/framework"
)

// How many fitting nodes are looked for: all in a small cluster, and in a larger one a share that falls with
// its size, because the best of some hundred nodes is hardly worse than the best of all.
const (
	fewestToFind      = 100
	smallestShare     = 5
	nodesPerShareStep = 125
)

// A search over more nodes than this is split among goroutines, in portions.
const (
	alone   = 256
	portion = 64
)

// Find looks for nodes that fit, starting after those that the last search looked at. A status with code Failed
// means that a plugin could not decide.
func (c *Cycle) Find() ([]*framework.NodeInfo, *framework.Status) {
	if len(c.snapshot.Nodes) == 0 {
		return nil, nil
	}
	if node := c.promisedNode(); node != nil && c.Fits(node) == nil {
		return []*framework.NodeInfo{node}, nil
	}
	if c.only != nil {
		return c.findAmong()
	}
	search := &search{c: c, total: len(c.snapshot.Nodes), start: c.profile.start % len(c.snapshot.Nodes)}
	search.wanted = wanted(c.profile.Percentage, search.total)
	if len(c.profile.scores) == 0 {
		search.wanted = 1
	}
	found, failed := search.run()
	c.profile.start = (search.start + search.looked) % search.total
	return found, failed
}

// promisedNode returns the node that the Pod is nominated to, which is tried first.
func (c *Cycle) promisedNode() *framework.NodeInfo {
	name := c.pod.Pod.Status.NominatedNodeName
	if name == "" {
		name = c.profile.nominated.NodeOf(c.pod.Pod.UID)
	}
	if name == "" || c.only != nil && !c.only.Has(name) {
		return nil
	}
	return c.snapshot.Get(name)
}

// findAmong looks only at the nodes that the plugins left.
func (c *Cycle) findAmong() ([]*framework.NodeInfo, *framework.Status) {
	var found []*framework.NodeInfo
	for name := range c.only {
		i, ok := c.snapshot.Index[name]
		if !ok {
			continue
		}
		s := c.Fits(c.snapshot.Nodes[i])
		switch {
		case s == nil:
			found = append(found, c.snapshot.Nodes[i])
		case s.Code == framework.Failed:
			return nil, s
		default:
			c.refused[i] = s
		}
	}
	return found, nil
}

// wanted returns how many fitting nodes are enough.
func wanted(percentage, nodes int) int {
	if nodes < fewestToFind {
		return nodes
	}
	if percentage == 0 {
		percentage = max(50-nodes/nodesPerShareStep, smallestShare)
	}
	return max(nodes*percentage/100, fewestToFind)
}

// search looks at nodes until enough fit.
type search struct {
	c             *Cycle
	start, total  int
	wanted        int
	looked        int
	next, fitting atomic.Int64
	mu            sync.Mutex
	found         []*framework.NodeInfo
	failed        *framework.Status
}

func (s *search) run() ([]*framework.NodeInfo, *framework.Status) {
	s.found = make([]*framework.NodeInfo, 0, s.wanted)
	if s.total <= alone || runtime.GOMAXPROCS(0) == 1 {
		s.alone()
	} else {
		var workers sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			workers.Go(s.portions)
		}
		workers.Wait()
		s.looked = min(int(s.next.Load()), s.total)
		s.found = s.found[:min(len(s.found), s.wanted)]
	}
	return s.found, s.failed
}

// alone looks at one node after the other.
func (s *search) alone() {
	for s.looked = 0; s.looked < s.total && len(s.found) < s.wanted; s.looked++ {
		node, status := s.look(s.looked)
		if status == nil {
			s.found = append(s.found, node)
		} else if status.Code == framework.Failed {
			s.failed = status
			return
		}
	}
}

// portions takes portions of the nodes until none is left or enough are found.
func (s *search) portions() {
	mine := make([]*framework.NodeInfo, 0, portion)
	for s.fitting.Load() < int64(s.wanted) {
		first := int(s.next.Add(portion)) - portion
		if first >= s.total {
			break
		}
		for i := first; i < min(first+portion, s.total); i++ {
			node, status := s.look(i)
			if status == nil {
				mine = append(mine, node)
			} else if status.Code == framework.Failed {
				s.mu.Lock()
				s.failed = status
				s.mu.Unlock()
				s.fitting.Store(int64(s.wanted)) // ends the search
				return
			}
		}
		s.fitting.Add(int64(len(mine)))
		s.mu.Lock()
		s.found = append(s.found, mine...)
		s.mu.Unlock()
		mine = mine[:0]
	}
}

// look runs the filters on the i-th node of this search.
func (s *search) look(i int) (*framework.NodeInfo, *framework.Status) {
	at := (s.start + i) % s.total
	node := s.c.snapshot.Nodes[at]
	status := s.c.Fits(node)
	if status != nil {
		s.c.refused[at] = status
	}
	return node, status
}
