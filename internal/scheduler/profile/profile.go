// Package profile runs the plugins of one scheduler profile: it asks them, in order, about a Pod and the
// nodes, and makes one answer of theirs.
package profile

import (
	"fmt"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/queue"
)

// Enabled is a plugin that is part of a profile, and the weight of its scores.
type Enabled struct {
	Plugin framework.Plugin
	Weight int64
	// Without are the points at which it takes no part.
	Without Point
}

// Point is a set of points of a decision at which plugins take part.
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
	// Everywhere is all of them.
	Everywhere Point = 1<<iota - 1
)

// Profile is what decides on the Pods of one scheduler name.
type Profile struct {
	// Name is the schedulerName of the Pods.
	Name string
	// Percentage is how many of the nodes that fit are scored; 0 chooses by the size of the cluster.
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
	start       int // the node that the next search begins with
}

// filter is a Filterer, and where among the preFilters it is (-1: it is none).
type filter struct {
	framework.Filterer
	pre int
}

// score is a Scorer, and where among the preScores it is (-1: it is none).
type score struct {
	framework.Scorer
	weight int64
	pre    int
}

// New puts a profile together. The order of the plugins is the order in which they are asked. It must have
// one QueueSorter and one Binder.
func New(name string, percentage int, nominated *queue.Nominated, plugins []Enabled) (*Profile, error) {
	p := &Profile{Name: name, Percentage: percentage, nominated: nominated, hints: map[string][]framework.Hint{}}
	for _, e := range plugins {
		p.add(e)
	}
	if p.sorter == nil || p.binder == nil {
		return nil, fmt.Errorf("profile %q: it needs a plugin that sorts the queue and one that binds", name)
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

// Gate asks whether the Pod may wait for a decision at all.
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

// Binder is the plugin that binds.
func (p *Profile) Binder() framework.Binder { return p.binder }

// Hints gathers the hints of the plugins named.
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

// Reserve has every plugin take account of the decision. When one refuses, those before it give back what
// they took.
func (p *Profile) Reserve(pod *framework.PodInfo, node string) *framework.Status {
	for _, r := range p.reservers {
		if s := r.Reserve(pod, node); s != nil {
			p.Unreserve(pod, node)
			return s
		}
	}
	return nil
}

// Unreserve has every plugin give back what it took for the decision, the last one first.
func (p *Profile) Unreserve(pod *framework.PodInfo, node string) {
	for i := len(p.reservers) - 1; i >= 0; i-- {
		p.reservers[i].Unreserve(pod, node)
	}
}
