package plugins

import (
	"math"

	"podium.dev/podium/internal/scheduler/framework"
)

// BalancedAllocation prefers nodes on which the Pod leaves the resources used in equal shares, so that no
// resource runs out while much of another is free.
type BalancedAllocation struct {
	Resources []Weighted
}

// Name implements framework.Plugin.
func (BalancedAllocation) Name() string { return BalancedAllocationName }

// PreScore implements framework.PreScorer: a Pod that requests nothing changes no balance.
func (b BalancedAllocation) PreScore(pod *framework.PodInfo, _ *framework.Snapshot, _ []*framework.NodeInfo) framework.PreScore {
	for _, r := range b.Resources {
		if pod.Request.Of(r.Name) != 0 {
			return framework.PreScore{}
		}
	}
	return framework.PreScore{Skip: true}
}

// Score implements framework.Scorer: half the range if the Pod leaves the balance as it is, more if it improves
// it.
func (b BalancedAllocation) Score(_ any, pod *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	with, without := b.balance(pod, node, true), b.balance(pod, node, false)
	const half = framework.MaxScore / 2
	return half + (half+with-without)/2
}

// balance returns MaxScore if all resources are used in equal shares, and less the more the shares deviate.
func (b BalancedAllocation) balance(pod *framework.PodInfo, node *framework.NodeInfo, with bool) int64 {
	var shares [8]float64
	n, sum := 0, 0.0
	for _, r := range b.Resources {
		has, taken, want := node.Allocatable.Of(r.Name), node.Requested.Of(r.Name), pod.Request.Of(r.Name)
		if has == 0 || want == 0 && framework.IsScalar(r.Name) || n == len(shares) {
			continue
		}
		if with {
			taken += want
		}
		shares[n] = min(float64(taken)/float64(has), 1)
		sum += shares[n]
		n++
	}
	deviation := 0.0
	switch {
	case n == 2:
		deviation = math.Abs(shares[0]-shares[1]) / 2
	case n > 2:
		mean := sum / float64(n)
		for _, s := range shares[:n] {
			deviation += (s - mean) * (s - mean)
		}
		deviation = math.Sqrt(deviation / float64(n))
	}
	return int64((1 - deviation) * float64(framework.MaxScore))
}

// Hints implements framework.Hinter.
func (BalancedAllocation) Hints() []framework.Hint { return nil }
