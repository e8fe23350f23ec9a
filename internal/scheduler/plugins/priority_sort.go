package plugins

import "podium.dev/podium/internal/scheduler/framework"

// PrioritySort decides on Pods of higher priority first, and among equals on those that have waited longest.
type PrioritySort struct{}

// Name implements framework.Plugin.
func (PrioritySort) Name() string { return PrioritySortName }

// Less implements framework.QueueSorter.
func (PrioritySort) Less(a, b framework.Waiting) bool {
	if a.Pod.Priority != b.Pod.Priority {
		return a.Pod.Priority > b.Pod.Priority
	}
	return a.Since.Before(b.Since)
}

// Hints implements framework.Hinter.
func (PrioritySort) Hints() []framework.Hint { return nil }
