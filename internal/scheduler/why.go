package scheduler

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// verdicts remembers the last refusal of each waiting Pod.
type verdicts struct {
	mu  sync.Mutex
	all map[types.UID]verdict
}

// verdict is a refusal. It is small; the numbers are worked out when somebody asks.
type verdict struct {
	attempts int
	message  string
	at       time.Time
}

func newVerdicts() *verdicts { return &verdicts{all: map[types.UID]verdict{}} }

func (v *verdicts) set(p *framework.PodInfo, attempts int, message string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all[p.Pod.UID] = verdict{attempts, message, at}
}

func (v *verdicts) forget(uid types.UID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, uid)
}

func (v *verdicts) get(uid types.UID) (verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out, ok := v.all[uid]
	return out, ok
}

// Explanation says why a Pod waits.
type Explanation struct {
	Pod types.NamespacedName
	// Attempts is how often the Pod was decided on, LastAttempt when, and Message the outcome, in
	// Kubernetes' words.
	Attempts    int
	LastAttempt time.Time
	Message     string
	// Held is set when the Pod is not decided on at all, such as for its scheduling gates.
	Held string
	// Whole is what keeps it off all nodes at once, "" if nothing does.
	Whole string
	// Nominated is the node on which room is being made for it.
	Nominated string
	// Nodes says for each node what keeps the Pod off it, as of now.
	Nodes []NodeExplanation
}

// NodeExplanation says what keeps a Pod off a node: every rule that does, not only the first. None means
// that it would fit now.
type NodeExplanation struct {
	Node    string
	Details []framework.Detail
}

// Why explains why a Pod waits, with the cluster as it is now. It answers false for a Pod that is not
// waiting here: it has a node, is another scheduler's, or does not exist.
func (s *Scheduler) Why(namespace, name string) (Explanation, bool) {
	if s.options.Election != nil {
		if leader := s.leading.Load(); leader != nil {
			return leader.Why(namespace, name)
		}
		return Explanation{}, false
	}
	pod, err := s.sources.pods().Pods(namespace).Get(name)
	if err != nil || pod.Spec.NodeName != "" || s.profileOf(pod) == nil {
		return Explanation{}, false
	}
	info, p := framework.NewPodInfo(pod), s.profileOf(pod)
	out := Explanation{Pod: info.Name(), Nominated: s.nominated.NodeOf(pod.UID)}
	if v, ok := s.verdicts.get(pod.UID); ok {
		out.Attempts, out.LastAttempt, out.Message = v.attempts, v.at, v.message
	}
	if gate := p.Gate(info); gate != nil {
		out.Held = gate.Message()
		return out, true
	}
	snapshot := s.cache.Copy()
	cycle, whole := p.Begin(info, snapshot)
	if whole != nil {
		out.Whole = whole.Message()
		return out, true
	}
	for _, node := range snapshot.Nodes {
		out.Nodes = append(out.Nodes, NodeExplanation{Node: node.Node.Name, Details: cycle.Explain(node)})
	}
	return out, true
}
