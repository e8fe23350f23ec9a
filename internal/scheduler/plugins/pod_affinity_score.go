package plugins

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// pull is how strongly the Pods of a domain attract (or, if negative, repel) the Pod.
type pull map[domain]int64

func (p pull) add(node *corev1.Node, key string, weight int64) {
	if value, ok := node.Labels[key]; ok {
		p[domain{key, value}] += weight
	}
}

// draw is a term's key and weight for the Pods of a class.
type draw struct {
	key    string
	weight int64
}

// PreScore implements framework.PreScorer: it adds up the pull of every domain.
func (a *InterPodAffinity) PreScore(pod *framework.PodInfo, snapshot *framework.Snapshot, _ []*framework.NodeInfo) framework.PreScore {
	own := len(pod.Class.PreferredAffinity)+len(pod.Class.PreferredAntiAffinity) > 0
	if !own && (a.IgnoreExisting || !snapshot.AnyAffinity()) {
		return framework.PreScore{Skip: true}
	}
	total, known := pull{}, map[*framework.Class][]draw{}
	for _, node := range snapshot.Nodes {
		if !own && node.Affinity == 0 {
			continue
		}
		for _, c := range node.Classes {
			draws, ok := known[c.Class]
			if !ok {
				draws = a.draws(pod, c.Class)
				known[c.Class] = draws
			}
			for _, d := range draws {
				total.add(node.Node, d.key, d.weight*int64(c.N))
			}
		}
	}
	if len(total) == 0 {
		return framework.PreScore{Skip: true}
	}
	return framework.PreScore{State: total}
}

// draws lists the terms by which a Pod of the class attracts or repels the Pod.
func (a *InterPodAffinity) draws(pod *framework.PodInfo, class *framework.Class) []draw {
	var out []draw
	weighted := func(terms []framework.WeightedPodTerm, about *framework.Class, sign int64) {
		for i := range terms {
			if t := &terms[i]; t.Matches(about, a.Namespaces) {
				out = append(out, draw{t.TopologyKey, sign * t.Weight})
			}
		}
	}
	weighted(pod.Class.PreferredAffinity, class, 1)
	weighted(pod.Class.PreferredAntiAffinity, class, -1)
	if a.HardWeight > 0 {
		for i := range class.Affinity {
			if t := &class.Affinity[i]; t.Matches(pod.Class, a.Namespaces) {
				out = append(out, draw{t.TopologyKey, a.HardWeight})
			}
		}
	}
	weighted(class.PreferredAffinity, pod.Class, 1)
	weighted(class.PreferredAntiAffinity, pod.Class, -1)
	return out
}

// Score implements framework.Scorer.
func (a *InterPodAffinity) Score(state any, _ *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	total, _ := state.(pull)
	var sum int64
	for key, value := range node.Node.Labels {
		sum += total[domain{key, value}]
	}
	return sum
}

// Normalize implements framework.Normalizer: the weakest pull becomes 0, the strongest MaxScore.
func (a *InterPodAffinity) Normalize(_ any, _ *framework.PodInfo, _ []*framework.NodeInfo, scores []int64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range scores {
		least, most = min(least, s), max(most, s)
	}
	for i, s := range scores {
		scores[i] = 0
		if most > least {
			scores[i] = int64(float64(framework.MaxScore) * (float64(s-least) / float64(most-least)))
		}
	}
}
