package plugins

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// How many nodes are tried for a preemption: a tenth of them, but at least a hundred (the defaults of
// DefaultPreemptionArgs).
const (
	triedShare  = 10
	triedFewest = 100
)

// DefaultPreemption makes room for a Pod that fits no node by deleting Pods of lower priority from the node
// where the loss is smallest.
type DefaultPreemption struct {
	// Budgets returns all disruption budgets.
	Budgets func() []*policyv1.PodDisruptionBudget
	// Carry carries out a preemption.
	Carry func(Preemption)
	// Least and Share override how many nodes are tried. Zero means the defaults.
	Least, Share int

	mu      sync.Mutex
	running map[types.UID]bool
}

// Preemption is a decision to delete Pods in favor of another.
type Preemption struct {
	For     *framework.PodInfo
	Node    string
	Victims []*framework.PodInfo
	// Finish must be called once all victims but the last have been deleted, just before the last one is. From
	// then on the Pod may be decided on again.
	Finish func()
}

// Name implements framework.Plugin.
func (*DefaultPreemption) Name() string { return DefaultPreemptionName }

// Hints implements framework.Hinter. The rules that refused the Pod provide the hints.
func (*DefaultPreemption) Hints() []framework.Hint { return nil }

var waitsForPreemption = framework.RefuseForGood(DefaultPreemptionName, "waiting for the preemption for this pod to be finished")

// PreEnqueue implements framework.PreEnqueuer. A Pod for which room is being made is not decided on before all
// victims have been deleted; otherwise further victims would be chosen.
func (d *DefaultPreemption) PreEnqueue(pod *framework.PodInfo) *framework.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[pod.Pod.UID] {
		return waitsForPreemption
	}
	return nil
}

// PostFilter implements framework.PostFilterer.
func (d *DefaultPreemption) PostFilter(_ context.Context, decision framework.Decision) framework.PostFilter {
	if why := d.notEligible(decision); why != "" {
		return framework.PostFilter{Message: "preemption: " + why}
	}
	found, reasons := d.candidates(decision)
	if len(found) == 0 {
		return framework.PostFilter{Clear: true, Message: "preemption: " + framework.NoneAvailable(len(decision.Snapshot().Nodes), reasons)}
	}
	best := pick(found)
	d.begin(decision.Pod(), best)
	return framework.PostFilter{Nominated: best.node, Message: best.message()}
}

// notEligible returns why the Pod may not preempt others now, or "" if it may.
func (d *DefaultPreemption) notEligible(decision framework.Decision) string {
	pod := decision.Pod()
	if p := pod.Pod.Spec.PreemptionPolicy; p != nil && *p == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	i, ok := decision.Snapshot().Index[pod.Pod.Status.NominatedNodeName]
	if !ok {
		return ""
	}
	if s := decision.Refused(i); s != nil && s.Code == framework.Unresolvable {
		return ""
	}
	for _, p := range decision.Snapshot().Nodes[i].Pods {
		if p.Priority < pod.Priority && framework.Preempted(p.Pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// candidate is a node and the Pods that would have to leave it.
type candidate struct {
	node       string
	victims    []*framework.PodInfo // the most important first
	violations int                  // of disruption budgets
}

// candidates tries the nodes on which removing Pods could help. For the others it returns why they were not
// candidates.
func (d *DefaultPreemption) candidates(decision framework.Decision) ([]candidate, map[string]int) {
	nodes := decision.Snapshot().Nodes
	var potential []int
	for i := range nodes {
		if s := decision.Refused(i); s != nil && s.Code == framework.Unschedulable {
			potential = append(potential, i)
		}
	}
	reasons := map[string]int{}
	const noHelp = "Preemption is not helpful for scheduling"
	if n := len(nodes) - len(potential); n > 0 {
		reasons[noHelp] = n
	}
	if len(potential) == 0 {
		return nil, reasons
	}
	found, refused := d.try(decision, potential, d.Budgets())
	for reason, n := range refused {
		reasons[reason] += n
	}
	return found, reasons
}

// try tries nodes, starting at a random one, until it has found enough candidates.
func (d *DefaultPreemption) try(decision framework.Decision, potential []int, budgets []*policyv1.PodDisruptionBudget) ([]candidate, map[string]int) {
	enough := d.enough(len(potential))
	offset := rand.IntN(len(potential))
	var next, clean, all atomic.Int64
	var mu sync.Mutex
	var found []candidate
	refused := map[string]int{}
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(potential) || clean.Load() > 0 && all.Load() >= int64(enough) {
				return
			}
			at := potential[(offset+i)%len(potential)]
			c, status := selectVictims(decision.Trial(at), decision.Pod(), budgets)
			mu.Lock()
			if status == nil {
				found = append(found, c)
				all.Add(1)
				if c.violations == 0 {
					clean.Add(1)
				}
			} else {
				for _, reason := range status.Reasons {
					refused[reason]++
				}
			}
			mu.Unlock()
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(potential)) {
		workers.Go(work)
	}
	workers.Wait()
	return found, refused
}

func (d *DefaultPreemption) enough(potential int) int {
	least, share := triedFewest, triedShare
	if d.Least > 0 {
		least = d.Least
	}
	if d.Share > 0 {
		share = d.Share
	}
	return min(max(potential*share/100, least), potential)
}
