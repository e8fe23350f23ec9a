package plugins

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// spreadScore is what one decision knows for its scores.
type spreadScore struct {
	all     []constraint
	weights []float64
	domains []map[string]int
	known   []map[*framework.Class]bool
	// ignored are the nodes that lack a label of a constraint.
	ignored map[*framework.NodeInfo]bool
}

// PreScore implements framework.PreScorer: it counts the Pods in the domains of the fitting nodes.
func (t *PodTopologySpread) PreScore(pod *framework.PodInfo, snapshot *framework.Snapshot, fitting []*framework.NodeInfo) framework.PreScore {
	all, err := t.constraints(pod, corev1.ScheduleAnyway)
	if err != nil || len(all) == 0 { // PreFilter has refused a Pod whose constraints cannot be parsed
		return framework.PreScore{Skip: true}
	}
	strict := len(pod.Pod.Spec.TopologySpreadConstraints) > 0 || !t.SystemDefaults
	s := &spreadScore{all: all, ignored: map[*framework.NodeInfo]bool{}}
	for range all {
		s.domains = append(s.domains, map[string]int{})
		s.known = append(s.known, map[*framework.Class]bool{})
	}
	for _, node := range fitting {
		if strict && !hasAllKeys(node.Node, all) {
			s.ignored[node] = true
			continue
		}
		for i := range all {
			if all[i].key != corev1.LabelHostname { // a domain per node: counted when it is scored
				s.domains[i][node.Node.Labels[all[i].key]] = 0
			}
		}
	}
	for i := range all {
		n := len(s.domains[i])
		if all[i].key == corev1.LabelHostname {
			n = len(fitting) - len(s.ignored)
		}
		// Skews weigh more if there are more domains, because each then has fewer Pods.
		s.weights = append(s.weights, math.Log(float64(n+2)))
	}
	s.count(pod, snapshot, strict)
	return framework.PreScore{State: s}
}

func (s *spreadScore) count(pod *framework.PodInfo, snapshot *framework.Snapshot, strict bool) {
	for i := range s.all {
		c := &s.all[i]
		if c.key == corev1.LabelHostname {
			continue
		}
		for _, node := range snapshot.Nodes {
			value := node.Node.Labels[c.key]
			if _, wanted := s.domains[i][value]; !wanted || strict && !hasAllKeys(node.Node, s.all) || !c.counts(pod, node.Node) {
				continue
			}
			s.domains[i][value] += c.matching(pod, node, s.known[i])
		}
	}
}

// Score implements framework.Scorer. More matching Pods in the node's domains mean a higher score, which
// Normalize reverses.
func (t *PodTopologySpread) Score(state any, pod *framework.PodInfo, _ *framework.Snapshot, node *framework.NodeInfo) int64 {
	s, ok := state.(*spreadScore)
	if !ok || s.ignored[node] {
		return 0
	}
	sum := 0.0
	for i := range s.all {
		c := &s.all[i]
		value, ok := node.Node.Labels[c.key]
		if !ok {
			continue
		}
		n := s.domains[i][value]
		if c.key == corev1.LabelHostname {
			n = c.matching(pod, node, s.known[i])
		}
		sum += float64(n)*s.weights[i] + float64(c.maxSkew-1)
	}
	return int64(math.Round(sum))
}

// Normalize implements framework.Normalizer: the fewest Pods get MaxScore, ignored nodes get 0.
func (t *PodTopologySpread) Normalize(state any, _ *framework.PodInfo, fitting []*framework.NodeInfo, scores []int64) {
	s, ok := state.(*spreadScore)
	if !ok {
		return
	}
	least, most := int64(math.MaxInt64), int64(0)
	for i, score := range scores {
		if !s.ignored[fitting[i]] {
			least, most = min(least, score), max(most, score)
		}
	}
	for i, score := range scores {
		switch {
		case s.ignored[fitting[i]]:
			scores[i] = 0
		case most == 0:
			scores[i] = framework.MaxScore
		default:
			scores[i] = framework.MaxScore * (most + least - score) / most
		}
	}
}
