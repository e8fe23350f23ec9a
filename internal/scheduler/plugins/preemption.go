package plugins

import (
	"cmp"
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// How many nodes are tried in thought for a preemption: a tenth, at least a hundred.
const (
	triedShare  = 10
	triedFewest = 100
)

// DefaultPreemption makes room for a Pod that fits nowhere by deleting Pods of lower priority from the node
// where that hurts least.
type DefaultPreemption struct {
	// Budgets answers with all disruption budgets.
	Budgets func() []*policyv1.PodDisruptionBudget
	// Carry carries a preemption out.
	Carry func(Preemption)
	// Least and Share override how many nodes are tried; zero means the defaults.
	Least, Share int

	mu      sync.Mutex
	running map[types.UID]bool
}

// Preemption is a decision to delete Pods for another.
type Preemption struct {
	For     *framework.PodInfo
	Node    string
	Victims []*framework.PodInfo
	// Finish must be called when all victims but the last have been asked to go, just before the last is:
	// from then on the Pod may be decided on again.
	Finish func()
}

// Name implements framework.Plugin.
func (*DefaultPreemption) Name() string { return DefaultPreemptionName }

// Hints implements framework.Hinter: the rules that refused the Pod say what may help.
func (*DefaultPreemption) Hints() []framework.Hint { return nil }

var waitsForPreemption = framework.RefuseForGood(DefaultPreemptionName, "waiting for the preemption for this pod to be finished")

// PreEnqueue implements framework.PreEnqueuer: a Pod for which room is being made is not decided on before
// all victims have been asked to go, lest others are chosen as well.
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

// notEligible says why the Pod may not preempt others now, "" when it may.
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

// candidate is a node, and the Pods that would have to go from it.
type candidate struct {
	node       string
	victims    []*framework.PodInfo // the most important first
	violations int                  // of disruption budgets
}

// candidates tries the nodes in thought on which fewer Pods could help, and says of the others why they
// would not do.
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

// try tries nodes, beginning anywhere, until enough would do.
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

var noVictims = framework.RefuseForGood(DefaultPreemptionName, "No preemption victims found for incoming pod")

// selectVictims finds the Pods that must go from the node. In thought it first removes all of lower
// priority, and then takes back as many as it can: those first whose loss would violate a budget, and then
// the more important ones.
func selectVictims(trial framework.Trial, pod *framework.PodInfo, budgets []*policyv1.PodDisruptionBudget) (candidate, *framework.Status) {
	var lower []*framework.PodInfo
	for _, p := range trial.Node().Pods {
		if p.Priority < pod.Priority {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return candidate{}, noVictims
	}
	for _, p := range lower {
		trial.Remove(p)
	}
	if status := trial.Fits(); status != nil {
		return candidate{}, status
	}
	slices.SortFunc(lower, moreImportant)
	violating, others := splitByBudget(lower, budgets)
	c := candidate{node: trial.Node().Node.Name}
	for i, p := range append(violating, others...) {
		trial.Add(p)
		if trial.Fits() == nil {
			continue
		}
		trial.Remove(p)
		c.victims = append(c.victims, p)
		if i < len(violating) {
			c.violations++
		}
	}
	slices.SortFunc(c.victims, moreImportant)
	return c, nil
}

// moreImportant orders Pods: those of higher priority first, and among equals those that have run longer.
func moreImportant(a, b *framework.PodInfo) int {
	if a.Priority != b.Priority {
		return cmp.Compare(b.Priority, a.Priority)
	}
	return started(a).Compare(started(b))
}

// started is when the Pod started; one that has not is taken to start now, so it is the least important.
func started(p *framework.PodInfo) time.Time {
	if t := p.Pod.Status.StartTime; t != nil {
		return t.Time
	}
	return farFuture
}

var farFuture = time.Unix(1<<40, 0)

// splitByBudget separates the Pods whose loss would violate a budget.
func splitByBudget(pods []*framework.PodInfo, budgets []*policyv1.PodDisruptionBudget) (violating, others []*framework.PodInfo) {
	left := make([]int32, len(budgets))
	selectors := make([]labels.Selector, len(budgets))
	for i, b := range budgets {
		left[i] = b.Status.DisruptionsAllowed
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || s.Empty() { // selects nothing, in a budget
			s = labels.Nothing()
		}
		selectors[i] = s
	}
	for _, p := range pods {
		bad := false
		for i, b := range budgets {
			if b.Namespace != p.Pod.Namespace || len(p.Pod.Labels) == 0 || !selectors[i].Matches(labels.Set(p.Pod.Labels)) {
				continue
			}
			if _, granted := b.Status.DisruptedPods[p.Pod.Name]; granted {
				continue // its eviction has been counted already
			}
			if left[i]--; left[i] < 0 {
				bad = true
				break
			}
		}
		if bad {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}
