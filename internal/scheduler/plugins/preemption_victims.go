package plugins

import (
	"cmp"
	"slices"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/scheduler/framework"
)

var noVictims = framework.RefuseForGood(DefaultPreemptionName, "No preemption victims found for incoming pod")

// selectVictims finds the Pods that must leave the node. It first removes all Pods of lower priority from the
// trial, and then adds back as many as it can: first those whose loss would violate a budget, then the more
// important ones.
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

// moreImportant orders Pods by priority, highest first, and then by start time, earliest first.
func moreImportant(a, b *framework.PodInfo) int {
	if a.Priority != b.Priority {
		return cmp.Compare(b.Priority, a.Priority)
	}
	return started(a).Compare(started(b))
}

// started returns when the Pod started. A Pod that has not started counts as starting now, which makes it the
// least important.
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
		if err != nil || s.Empty() { // an empty selector in a budget selects nothing
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
				continue // its eviction has already been counted
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
