package profile

import (
	"math/rand/v2"

	"podium.dev/podium/internal/scheduler/framework"
)

// Choose returns the best of the nodes that fit, or any of the best if there are several.
func (c *Cycle) Choose(fitting []*framework.NodeInfo) *framework.NodeInfo {
	if len(fitting) == 1 {
		return fitting[0]
	}
	totals := c.Scores(fitting)
	best, ties := 0, 1
	for i := 1; i < len(totals); i++ {
		switch {
		case totals[i] > totals[best]:
			best, ties = i, 1
		case totals[i] == totals[best]:
			if ties++; rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return fitting[best]
}

// Scores returns the weighted sum of all plugins' scores for each node.
func (c *Cycle) Scores(fitting []*framework.NodeInfo) []int64 {
	pres := make([]framework.PreScore, len(c.profile.preScores))
	for i, p := range c.profile.preScores {
		pres[i] = p.PreScore(c.pod, c.snapshot, fitting)
	}
	totals := make([]int64, len(fitting))
	scores := make([]int64, len(fitting))
	for i := range c.profile.scores {
		s := &c.profile.scores[i]
		var state any
		if s.pre >= 0 {
			if pres[s.pre].Skip {
				continue
			}
			state = pres[s.pre].State
		}
		for j, node := range fitting {
			scores[j] = s.Score(state, c.pod, c.snapshot, node)
		}
		if n, ok := s.Scorer.(framework.Normalizer); ok {
			n.Normalize(state, c.pod, fitting, scores)
		}
		for j := range totals {
			totals[j] += s.weight * scores[j]
		}
	}
	return totals
}
