package plugins

import (
	"fmt"
	"math"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// pick returns the candidate whose loss is smallest: fewest violated budgets, then the lowest priority of its
// most important victim, then the lowest sum of priorities, then fewest victims, then the latest start of the
// longest-running of its most important victims.
func pick(all []candidate) candidate {
	best := all[0]
	for _, c := range all[1:] {
		if hurtsLess(c, best) {
			best = c
		}
	}
	return best
}

func hurtsLess(a, b candidate) bool {
	if a.violations != b.violations {
		return a.violations < b.violations
	}
	if x, y := a.highest(), b.highest(); x != y {
		return x < y
	}
	if x, y := a.sum(), b.sum(); x != y {
		return x < y
	}
	if len(a.victims) != len(b.victims) {
		return len(a.victims) < len(b.victims)
	}
	return a.earliest() > b.earliest()
}

// highest returns the priority of the most important victim.
func (c *candidate) highest() int64 {
	if len(c.victims) == 0 {
		return math.MinInt64
	}
	return int64(c.victims[0].Priority)
}

// sum adds up the priorities, each shifted to be positive, so that more victims never count as less.
func (c *candidate) sum() int64 {
	var sum int64
	for _, p := range c.victims {
		sum += int64(p.Priority) + math.MaxInt32 + 1
	}
	return sum
}

// earliest returns the start of the longest-running victim among those of the highest priority.
func (c *candidate) earliest() int64 {
	if len(c.victims) == 0 {
		return math.MaxInt64
	}
	return started(c.victims[0]).Unix() // they are sorted that way
}

func (c *candidate) message() string {
	return fmt.Sprintf("preemption: found a potential placement for pod on node %s, preempting %d victims", c.node, len(c.victims))
}

// begin starts to carry out the preemption.
func (d *DefaultPreemption) begin(pod *framework.PodInfo, c candidate) {
	p := Preemption{For: pod, Node: c.node, Finish: func() {}}
	for _, v := range c.victims {
		if v.Pod.DeletionTimestamp == nil {
			p.Victims = append(p.Victims, v)
		}
	}
	if len(p.Victims) == 0 {
		return // they are already terminating
	}
	uid := pod.Pod.UID
	d.mu.Lock()
	if d.running == nil {
		d.running = map[types.UID]bool{}
	}
	d.running[uid] = true
	d.mu.Unlock()
	p.Finish = func() {
		d.mu.Lock()
		delete(d.running, uid)
		d.mu.Unlock()
	}
	d.Carry(p)
}
