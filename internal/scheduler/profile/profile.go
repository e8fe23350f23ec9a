// Package profile runs the plugins of one scheduler profile on a Pod and the nodes, in order, and combines
// their results.
package profile

import (
	"fmt"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/queue"
)

// Enabled is a plugin of a profile and the weight of its scores.
type Enabled struct {
	Plugin framework.Plugin
	Weight int64
	// Without are the points at which it takes no part.
	Without Point
}

// Point is a set of the points of a decision at which plugins take part.
type Point int

const (
	PreEnqueue Point = 1 << iota
	QueueSort
	PreFilter
	Filter
	PostFilter
	PreScore
	Score
	Reserve
	Bind
	// Everywhere is the set of all points.
	Everywhere Point = 1<<iota - 1
)

// Profile decides on the Pods of one scheduler name.
type Profile struct {
	// Name is the schedulerName of the Pods.
	Name string
	// Percentage is the percentage of fitting nodes to score. 0 chooses by the size of the cluster.
	Percentage int

	gates       []framework.PreEnqueuer
	sorter      framework.QueueSorter
	preFilters  []framework.PreFilterer
	filters     []filter
	postFilters []framework.PostFilterer
	preScores   []framework.PreScorer
	scores      []score
	reservers   []framework.Reserver
	binder      framework.Binder
	hints       map[string][]framework.Hint
	nominated   *queue.Nominated
	start       int // the node that the next search starts with
}

// filter is a Filterer and its index among the preFilters, or -1 if it is not one.
type filter struct {
	framework.Filterer
	pre int
}

// score is a Scorer and its index among the preScores, or -1 if it is not one.
type score struct {
	framework.Scorer
	weight int64
	pre    int
}

// New builds a profile. Plugins run in the given order. It returns an error unless there is a QueueSorter and a
// Binder.
func New(name string, percentage int, nominated *queue.Nominated, plugins []Enabled) (*Profile, error) {
	p := &Profile{Name: name, Percentage: percentage, nominated: nominated, hints: map[string][]framework.Hint{}}
	for _, e := range plugins {
		p.add(e)
	}
	if p.sorter == nil || p.binder == nil {
		return nil, fmt.Errorf("profile %q: a plugin that sorts the queue and one that binds are required", name)
	}
	return p, nil
}

func (p *Profile) add(e Enabled) {
	pre, preScore := -1, -1
	at := func(p Point) bool { return e.Without&p == 0 }
	if x, ok := e.Plugin.(framework.PreEnqueuer); ok && at(PreEnqueue) {
		p.gates = append(p.gates, x)
	}
	if x, ok := e.Plugin.(framework.QueueSorter); ok && at(QueueSort) && p.sorter == nil {
		p.sorter = x
	}
	if x, ok := e.Plugin.(framework.PreFilterer); ok && at(PreFilter) {
		pre = len(p.preFilters)
		p.preFilters = append(p.preFilters, x)
	}
	if x, ok := e.Plugin.(framework.Filterer); ok && at(Filter) {
		p.filters = append(p.filters, filter{x, pre})
	}
	if x, ok := e.Plugin.(framework.PostFilterer); ok && at(PostFilter) {
		p.postFilters = append(p.postFilters, x)
	}
	if x, ok := e.Plugin.(framework.PreScorer); ok && at(PreScore) {
		preScore = len(p.preScores)
		p.preScores = append(p.preScores, x)
	}
	if x, ok := e.Plugin.(framework.Scorer); ok && at(Score) && e.Weight > 0 {
		p.scores = append(p.scores, score{x, e.Weight, preScore})
	}
	if x, ok := e.Plugin.(framework.Reserver); ok && at(Reserve) {
		p.reservers = append(p.reservers, x)
	}
	if x, ok := e.Plugin.(framework.Binder); ok && at(Bind) && p.binder == nil {
		p.binder = x
	}
	if x, ok := e.Plugin.(framework.Hinter); ok {
		p.hints[x.Name()] = x.Hints()
	} else {
		p.hints[e.Plugin.Name()] = []framework.Hint{{Kinds: ^framework.EventKind(0)}}
	}
}

// Gate decides whether the Pod may wait for a decision at all.
func (p *Profile) Gate(pod *framework.PodInfo) *framework.Status {
	for _, g := range p.gates {
		if s := g.PreEnqueue(pod); s != nil {
			return s
		}
	}
	return nil
}

// Less orders waiting Pods.
func (p *Profile) Less(a, b framework.Waiting) bool { return p.sorter.Less(a, b) }

// Binder returns the plugin that binds.
func (p *Profile) Binder() framework.Binder { return p.binder }

// Hints returns the hints of the named plugins.
func (p *Profile) Hints(plugins []string) []framework.Hint {
	if len(plugins) == 1 {
		return p.hints[plugins[0]]
	}
	var out []framework.Hint
	for _, name := range plugins {
		out = append(out, p.hints[name]...)
	}
	return out
}

// Reserve lets every plugin account for the decision. If one refuses, those before it give back what they took.
func (p *Profile) Reserve(pod *framework.PodInfo, node string) *framework.Status {
	for _, r := range p.reservers {
		if s := r.Reserve(pod, node); s != nil {
			p.Unreserve(pod, node)
			return s
		}
	}
	return nil
}

// Unreserve makes every plugin give back what it took for the decision, in reverse order.
func (p *Profile) Unreserve(pod *framework.PodInfo, node string) {
	for i := len(p.reservers) - 1; i >= 0; i-- {
		p.reservers[i].Unreserve(pod, node)
	}
}
