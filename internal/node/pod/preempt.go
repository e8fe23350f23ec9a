package pod

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/podutil"
)

// systemCritical is the least priority of a Pod that the system cannot do without.
const systemCritical = 2_000_000_000

// Preempted is why a Pod ends whose room a critical one is given.
var Preempted = Verdict{
	Reason: "Preempting", Message: "Preempted in order to admit critical pod",
	DisruptionReason: v1.PodReasonTerminationByKubelet,
	Disruption:       "Pod was preempted by Kubelet to accommodate a critical pod.",
}

// Critical reports whether the Pod is one that others make room for.
func Critical(p *v1.Pod) bool {
	return podutil.IsStatic(p) || podutil.IsMirror(p) || (p.Spec.Priority != nil && *p.Spec.Priority >= systemCritical)
}

// MakeRoom answers which of the others must go for the node to have the resources that a critical Pod asks for:
// few, and BestEffort ones before Burstable before Guaranteed. It returns none when the Pod is not
// critical, when something else than resources stands against it, or when all of them would not be enough.
func MakeRoom(p *v1.Pod, node *v1.Node, others []*v1.Pod) []*v1.Pod {
	room := NewRoom(node, others)
	if !Critical(p) || unsupported(p, node) != nil || room.predicates(p) != nil {
		return nil
	}
	var need needs
	for _, s := range room.shortages(p) {
		need = append(need, want{s.name, s.want - (s.room - s.used)})
	}
	byClass := map[v1.PodQOSClass][]*v1.Pod{}
	for _, other := range others {
		if yields(other, p) {
			class := podutil.QOSClass(other)
			byClass[class] = append(byClass[class], other)
		}
	}
	best, burst, sure := byClass[v1.PodQOSBestEffort], byClass[v1.PodQOSBurstable], byClass[v1.PodQOSGuaranteed]
	if len(need.without(slices.Concat(best, burst, sure)...)) > 0 {
		return nil
	}
	// Of each class only what is needed though all lesser classes have gone.
	sureOut := nearest(sure, need.without(slices.Concat(best, burst)...))
	burstOut := nearest(burst, need.without(slices.Concat(best, sureOut)...))
	bestOut := nearest(best, need.without(slices.Concat(burstOut, sureOut)...))
	return slices.Concat(bestOut, burstOut, sureOut)
}

// yields reports whether a Pod goes when the other one needs its room.
func yields(p, critical *v1.Pod) bool {
	if !Critical(p) {
		return true
	}
	return p.Spec.Priority != nil && critical.Spec.Priority != nil && *critical.Spec.Priority > *p.Spec.Priority
}

// want is an amount of a resource that is missing.
type want struct {
	name   v1.ResourceName
	amount int64
}

type needs []want

// without is what is still missing when the Pods are gone.
func (n needs) without(pods ...*v1.Pod) needs {
	var left needs
	for _, w := range n {
		for _, p := range pods {
			w.amount -= request(p, w.name)
		}
		if w.amount > 0 {
			left = append(left, w)
		}
	}
	return left
}

// distance tells how much of the needs the end of a Pod would leave, each need weighing the same.
func (n needs) distance(p *v1.Pod) float64 {
	sum := 0.0
	for _, w := range n {
		if left := float64(w.amount - request(p, w.name)); left > 0 {
			sum += left / float64(w.amount) * left / float64(w.amount)
		}
	}
	return sum
}

// nearest picks Pods until the needs are met, each time the one that leaves the least of them, of equals the one
// that asks for less.
func nearest(pods []*v1.Pod, n needs) (out []*v1.Pod) {
	pods = slices.Clone(pods)
	for len(n) > 0 && len(pods) > 0 {
		best := slices.MinFunc(pods, func(a, b *v1.Pod) int {
			return cmp.Or(
				cmp.Compare(n.distance(a), n.distance(b)),
				cmp.Compare(request(a, v1.ResourceMemory), request(b, v1.ResourceMemory)),
				cmp.Compare(request(a, v1.ResourceCPU), request(b, v1.ResourceCPU)),
			)
		})
		n = n.without(best)
		out = append(out, best)
		pods = slices.DeleteFunc(pods, func(p *v1.Pod) bool { return p == best })
	}
	return out
}

// request is how much of a resource a Pod asks for.
func request(p *v1.Pod, name v1.ResourceName) int64 {
	if name == v1.ResourcePods {
		return 1
	}
	list := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	return amount(name, list[name])
}
