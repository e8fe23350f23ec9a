package shutdown

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// systemCritical is the least priority of the system's own Pods.
const systemCritical = 2000000000

// Period is how long the Pods have that have this priority or more, up to the next period's.
type Period struct {
	Priority int32
	Grace    time.Duration
}

// Periods are those of the settings, the lowest priority first, which ends first: shutdownGracePeriodByPodPriority, or
// two of shutdownGracePeriod, of which the latter is for critical Pods. None when the settings ask for none.
func Periods(k *kubeletconfig.KubeletConfiguration) []Period {
	var out []Period
	for _, p := range k.ShutdownGracePeriodByPodPriority {
		out = append(out, Period{p.Priority, time.Duration(p.ShutdownGracePeriodSeconds) * time.Second})
	}
	all, critical := k.ShutdownGracePeriod.Duration, k.ShutdownGracePeriodCriticalPods.Duration
	if len(out) == 0 && all > 0 && critical <= all {
		out = []Period{{0, (all - critical).Truncate(time.Second)}, {systemCritical, critical.Truncate(time.Second)}}
	}
	slices.SortStableFunc(out, func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// total is how long all of them may take.
func total(periods []Period) (sum time.Duration) {
	for _, p := range periods {
		sum += p.Grace
	}
	return sum
}

// group divides the Pods among the periods: each is in the last whose priority it reaches, and in the first when it
// reaches none.
func group(periods []Period, pods []*v1.Pod) [][]*v1.Pod {
	out := make([][]*v1.Pod, len(periods))
	for _, pod := range pods {
		priority := int32(0)
		if pod.Spec.Priority != nil {
			priority = *pod.Spec.Priority
		}
		at := 0
		for i, p := range periods {
			if p.Priority <= priority {
				at = i
			}
		}
		out[at] = append(out[at], pod)
	}
	return out
}
