package evict

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// Admit answers why a node with these conditions does not take a new Pod in, nil when it does. Under pressure it takes
// in no Pod but critical ones; when memory is all that is short, also those that request something, and those that
// tolerate the taint.
func Admit(p *v1.Pod, conditions []v1.NodeConditionType) *pod.Verdict {
	if len(conditions) == 0 || pod.Critical(p) {
		return nil
	}
	if len(conditions) == 1 && conditions[0] == v1.NodeMemoryPressure {
		taint := &v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}
		if podutil.QOSClass(p) != v1.PodQOSBestEffort || corev1.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, taint, false) {
			return nil
		}
	}
	return &pod.Verdict{Reason: Reason, Message: fmt.Sprintf("The node had condition: %v. ", conditions)}
}
