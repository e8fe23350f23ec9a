package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// Weighted is a resource and its weight in a score.
type Weighted struct {
	Name   corev1.ResourceName
	Weight int64
}

// cpuAndMemory are the resources that count by default.
var cpuAndMemory = []Weighted{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}

// Strategy decides how a used amount of a resource is scored.
type Strategy struct {
	Resources []Weighted
	// Score returns the score, from 0 to MaxScore, of having `taken` of `has` in use; has is not 0.
	Score func(taken, has int64) int64
}

// LeastAllocated prefers nodes with much left free, so that load spreads.
func LeastAllocated(resources []Weighted) Strategy {
	return Strategy{resources, func(taken, has int64) int64 {
		if taken > has {
			return 0
		}
		return (has - taken) * framework.MaxScore / has
	}}
}

// MostAllocated prefers nodes that are almost full, so that others stay empty.
func MostAllocated(resources []Weighted) Strategy {
	return Strategy{resources, func(taken, has int64) int64 { return min(taken, has) * framework.MaxScore / has }}
}

// ShapePoint is the score at a utilization in percent.
type ShapePoint struct{ Utilization, Score int64 }

// RequestedToCapacityRatio scores along a line through points, which are sorted by utilization.
func RequestedToCapacityRatio(resources []Weighted, shape []ShapePoint) Strategy {
	return Strategy{resources, func(taken, has int64) int64 {
		if taken > has {
			return interpolate(shape, 100)
		}
		return interpolate(shape, taken*100/has)
	}}
}

func interpolate(shape []ShapePoint, at int64) int64 {
	for i, p := range shape {
		if at > p.Utilization {
			continue
		}
		if i == 0 {
			return shape[0].Score
		}
		before := shape[i-1]
		return before.Score + (p.Score-before.Score)*(at-before.Utilization)/(p.Utilization-before.Utilization)
	}
	return shape[len(shape)-1].Score
}

// Score implements framework.Scorer: the weighted mean of the strategy's scores.
func (f NodeResourcesFit) Score(_ any, pod *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	var sum, weights int64
	for _, r := range f.Strategy.Resources {
		has, taken, want := scoreAmounts(r.Name, pod, node)
		if has == 0 || want == 0 && framework.IsScalar(r.Name) {
			continue
		}
		sum += r.Weight * f.Strategy.Score(taken+want, has)
		weights += r.Weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// scoreAmounts returns what the node has, what is in use and what the Pod adds. Pods that request no CPU or
// memory count with a small default.
func scoreAmounts(name corev1.ResourceName, pod *framework.PodInfo, node *framework.NodeInfo) (has, taken, want int64) {
	switch name {
	case corev1.ResourceCPU:
		return node.Allocatable.MilliCPU, node.ScoreRequested.MilliCPU, pod.ScoreRequest.MilliCPU
	case corev1.ResourceMemory:
		return node.Allocatable.Memory, node.ScoreRequested.Memory, pod.ScoreRequest.Memory
	}
	return node.Allocatable.Of(name), node.Requested.Of(name), pod.Request.Of(name)
}
