package profile

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/scheduler/framework"
)

// Cycle is one decision: a Pod against one snapshot.
type Cycle struct {
	profile  *Profile
	pod      *framework.PodInfo
	snapshot *framework.Snapshot
	states   []framework.State // by preFilter
	skip     []bool            // by preFilter
	only     sets.Set[string]
	onlyBy   []string
	// refused holds why each node was refused, by its place in the snapshot. It is nil for a node that fits or
	// was not looked at.
	refused []*framework.Status
}

// Begin runs the plugins that look at the Pod and the cluster as a whole. A non-nil status ends the decision.
func (p *Profile) Begin(pod *framework.PodInfo, snapshot *framework.Snapshot) (*Cycle, *framework.Status) {
	c := &Cycle{
		profile: p, pod: pod, snapshot: snapshot,
		states: make([]framework.State, len(p.preFilters)), skip: make([]bool, len(p.preFilters)),
		refused: make([]*framework.Status, len(snapshot.Nodes)),
	}
	if pod.Bad != nil {
		return c, framework.Fail("", pod.Bad)
	}
	refuse := func(s *framework.Status) (*Cycle, *framework.Status) {
		for i := range c.refused {
			c.refused[i] = s
		}
		return c, s
	}
	for i, f := range p.preFilters {
		out := f.PreFilter(pod, snapshot)
		if out.Refused != nil {
			return refuse(out.Refused)
		}
		c.states[i], c.skip[i] = out.State, out.Skip
		if out.Only == nil {
			continue
		}
		c.onlyBy = append(c.onlyBy, f.Name())
		if c.only == nil {
			c.only = out.Only
		} else {
			c.only = c.only.Intersection(out.Only)
		}
		if c.only.Len() == 0 {
			return refuse(c.noneLeft())
		}
	}
	return c, nil
}

// noneLeft returns the refusal for the case that the plugins together leave no node to consider.
func (c *Cycle) noneLeft() *framework.Status {
	slices.Sort(c.onlyBy)
	text := "node(s) didn't satisfy plugin " + c.onlyBy[0]
	if len(c.onlyBy) > 1 {
		text = "node(s) didn't satisfy plugin(s) " + bracketed(c.onlyBy) + " simultaneously"
	}
	return framework.RefuseForGood(c.onlyBy[0], text)
}

// filter runs the filters on a node with the given states.
func (c *Cycle) filter(states []framework.State, node *framework.NodeInfo) *framework.Status {
	for i := range c.profile.filters {
		f := &c.profile.filters[i]
		var state framework.State
		if f.pre >= 0 {
			if c.skip[f.pre] {
				continue
			}
			state = states[f.pre]
		}
		if s := f.Filter(state, c.pod, node); s != nil {
			return s
		}
	}
	return nil
}

// Fits runs the filters on a node. Pods of at least this priority that are nominated to the node count as being
// there. As they may end up elsewhere, and the Pod may need them for its affinity, it must also fit without
// them.
func (c *Cycle) Fits(node *framework.NodeInfo) *framework.Status {
	return c.fits(c.states, node)
}

func (c *Cycle) fits(states []framework.State, node *framework.NodeInfo) *framework.Status {
	if promised := c.promised(node.Node.Name); len(promised) > 0 {
		t := c.trial(states, node)
		for _, p := range promised {
			t.Add(p)
		}
		if s := c.filter(t.states, t.node); s != nil {
			return s
		}
	}
	return c.filter(states, node)
}

// promised returns the other Pods that must be counted on the node.
func (c *Cycle) promised(node string) []*framework.PodInfo {
	all := c.profile.nominated.On(node)
	if len(all) == 0 {
		return nil
	}
	var out []*framework.PodInfo
	for _, p := range all {
		if p.Priority >= c.pod.Priority && p.Pod.UID != c.pod.Pod.UID {
			out = append(out, p)
		}
	}
	return out
}

// Pod implements framework.Decision.
func (c *Cycle) Pod() *framework.PodInfo { return c.pod }

// Snapshot implements framework.Decision.
func (c *Cycle) Snapshot() *framework.Snapshot { return c.snapshot }

// Refused implements framework.Decision.
func (c *Cycle) Refused(node int) *framework.Status { return c.refused[node] }

// Trial implements framework.Decision.
func (c *Cycle) Trial(node int) framework.Trial { return c.trial(c.states, c.snapshot.Nodes[node]) }

// trial is a node to which Pods are added and from which Pods are removed hypothetically.
type trial struct {
	c      *Cycle
	node   *framework.NodeInfo
	states []framework.State
}

func (c *Cycle) trial(states []framework.State, node *framework.NodeInfo) *trial {
	t := &trial{c: c, node: node.Clone(), states: make([]framework.State, len(states))}
	for i, s := range states {
		if s != nil {
			t.states[i] = s.Clone()
		}
	}
	return t
}

// Node implements framework.Trial.
func (t *trial) Node() *framework.NodeInfo { return t.node }

// Add implements framework.Trial.
func (t *trial) Add(p *framework.PodInfo) {
	t.node.AddPod(p)
	t.adjust(func(a framework.Adjuster, s framework.State) { a.PodAdded(s, t.c.pod, p, t.node) })
}

// Remove implements framework.Trial.
func (t *trial) Remove(p *framework.PodInfo) {
	t.node.RemovePod(p.Pod.UID)
	t.adjust(func(a framework.Adjuster, s framework.State) { a.PodRemoved(s, t.c.pod, p, t.node) })
}

func (t *trial) adjust(f func(framework.Adjuster, framework.State)) {
	for i, pre := range t.c.profile.preFilters {
		if a, ok := pre.(framework.Adjuster); ok && !t.c.skip[i] {
			f(a, t.states[i])
		}
	}
}

// Fits implements framework.Trial.
func (t *trial) Fits() *framework.Status { return t.c.fits(t.states, t.node) }
