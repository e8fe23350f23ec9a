package plugins

import (
	"fmt"

	"podium.dev/podium/internal/scheduler/framework"
)

// SchedulingGates holds back a Pod that has scheduling gates.
type SchedulingGates struct{}

// Name implements framework.Plugin.
func (SchedulingGates) Name() string { return SchedulingGatesName }

// PreEnqueue implements framework.PreEnqueuer.
func (SchedulingGates) PreEnqueue(pod *framework.PodInfo) *framework.Status {
	gates := pod.Pod.Spec.SchedulingGates
	if len(gates) == 0 {
		return nil
	}
	names := make([]string, 0, len(gates))
	for _, g := range gates {
		names = append(names, g.Name)
	}
	return framework.RefuseForGood(SchedulingGatesName, fmt.Sprintf("waiting for scheduling gates: %v", names))
}

// Hints implements framework.Hinter.
func (SchedulingGates) Hints() []framework.Hint {
	return []framework.Hint{{Kinds: framework.OwnGates}}
}
