package tainteviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// forever is the stay of a Pod that tolerates every taint without a time limit.
const forever = time.Duration(-1)

// stay returns how long a Pod with these tolerations may stay on a node with these NoExecute taints: forever, 0
// if a taint is not tolerated, or else the shortest time that a matching toleration allows.
func stay(logger klog.Logger, taints []corev1.Taint, tolerations []corev1.Toleration) time.Duration {
	shortest := forever
	for i := range taints {
		tolerated := false
		for j := range tolerations {
			if !tolerations[j].ToleratesTaint(logger, &taints[i], false) {
				continue
			}
			tolerated = true
			if s := tolerations[j].TolerationSeconds; s != nil {
				d := max(0, time.Duration(*s)*time.Second)
				if shortest == forever || d < shortest {
					shortest = d
				}
			}
			break // the first matching toleration counts
		}
		if !tolerated {
			return 0
		}
	}
	return shortest
}

// noExecute returns the taints that evict.
func noExecute(taints []corev1.Taint) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}
