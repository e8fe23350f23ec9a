package podcontrol

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// DeletionCost is the annotation that ranks a Pod for deletion among its like: the lower, the earlier. It is an int32.
const DeletionCost = corev1.PodDeletionCost

// Active reports whether the Pod counts as a replica: it has not ended and is not being deleted.
func Active(p *corev1.Pod) bool { return !podutil.Ended(p) && p.DeletionTimestamp == nil }

// ReadySince returns when the Pod became ready, and whether it is ready.
func ReadySince(p *corev1.Pod) (time.Time, bool) {
	c := podutil.Condition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

// Available reports whether the Pod has been ready for minReady. When it is ready but not for long enough, left is the
// time after which it becomes available by staying ready; otherwise left is 0.
func Available(p *corev1.Pod, minReady time.Duration, now time.Time) (ok bool, left time.Duration) {
	since, ready := ReadySince(p)
	if !ready {
		return false, 0
	}
	if left := since.Add(minReady).Sub(now); minReady > 0 && left > 0 {
		return false, left
	}
	return true, 0
}

// Dispensable orders Pods for deletion, the first to go first: not assigned to a node, not running, not ready, of lower
// deletion cost, on a node with more of the Pods in peers, ready for a shorter time, with more restarts, younger. Times
// compare on a logarithmic scale (KEP-2185), so that small differences between old Pods do not count.
func Dispensable(pods, peers []*corev1.Pod, now time.Time) []*corev1.Pod {
	perNode := map[string]int{}
	for _, p := range peers {
		if Active(p) {
			perNode[p.Spec.NodeName]++
		}
	}
	out := slices.Clone(pods)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		at, aReady := ReadySince(a)
		bt, bReady := ReadySince(b)
		return cmp.Or(
			trueFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseOrder(a), phaseOrder(b)),
			trueFirst(!aReady, !bReady),
			cmp.Compare(cost(a), cost(b)),
			cmp.Compare(perNode[b.Spec.NodeName], perNode[a.Spec.NodeName]),
			cmp.Compare(logAge(at, now), logAge(bt, now)),
			cmp.Compare(restarts(b), restarts(a)),
			cmp.Compare(logAge(a.CreationTimestamp.Time, now), logAge(b.CreationTimestamp.Time, now)),
			strings.Compare(string(a.UID), string(b.UID)),
		)
	})
	return out
}

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseOrder(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func cost(p *corev1.Pod) int64 {
	n, err := strconv.ParseInt(p.Annotations[DeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

func logAge(t, now time.Time) int {
	if d := now.Sub(t); d > 0 && !t.IsZero() {
		return int(math.Log2(float64(d)))
	}
	return -1
}

func restarts(p *corev1.Pod) int32 {
	var most int32
	for _, c := range p.Status.ContainerStatuses {
		most = max(most, c.RestartCount)
	}
	return most
}
