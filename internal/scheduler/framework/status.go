package framework

import (
	"fmt"
	"slices"
	"strings"
)

// Code is the kind of a plugin's negative result.
type Code int

const (
	// Unschedulable means that the Pod does not fit, but preempting other Pods could change that.
	Unschedulable Code = iota
	// Unresolvable means that the Pod does not fit and preemption would not help.
	Unresolvable
	// Pending means that the Pod cannot be decided on yet. The plugin sends an event when it can.
	Pending
	// Failed means that the plugin could not decide. Err has the reason.
	Failed
)

// Status is a plugin's refusal or failure; nil means that the Pod fits. A Status is shared and must not be
// changed.
type Status struct {
	Code    Code
	Plugin  string
	Reasons []string // in Kubernetes' words, as messages count them
	Err     error
}

// Refuse returns a refusal that preemption could lift.
func Refuse(plugin string, reasons ...string) *Status {
	return &Status{Code: Unschedulable, Plugin: plugin, Reasons: reasons}
}

// RefuseForGood returns a refusal that preemption cannot lift.
func RefuseForGood(plugin string, reasons ...string) *Status {
	return &Status{Code: Unresolvable, Plugin: plugin, Reasons: reasons}
}

// Fail returns the status of a plugin that could not decide.
func Fail(plugin string, err error) *Status {
	return &Status{Code: Failed, Plugin: plugin, Reasons: []string{err.Error()}, Err: err}
}

// Message joins the reasons.
func (s *Status) Message() string {
	if s == nil {
		return ""
	}
	return strings.Join(s.Reasons, ", ")
}

// NoneAvailable formats, as Kubernetes does, that none of the nodes is available, and for how many of them each
// reason holds.
func NoneAvailable(nodes int, reasons map[string]int) string {
	all := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		all = append(all, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(all)
	out := fmt.Sprintf("0/%d nodes are available:", nodes)
	if len(all) > 0 {
		out += " " + strings.Join(all, ", ") + "."
	}
	return out
}

// Detail explains a refusal to a person, in numbers or names. The amounts are set for resources only.
type Detail struct {
	// Plugin and Reason are those of the refusal.
	Plugin, Reason string
	// Text names the obstacle, for example "taint gpu=yes:NoSchedule is not tolerated".
	Text string
	// Resource is what is short. Needs, Free and Of are in Kubernetes' notation.
	Resource, Needs, Free, Of string
	// Holders are the Pods that take most of the resource, the largest first.
	Holders []Holder
	// Fix describes what would lift the refusal.
	Fix string
}

// Holder is a Pod and the amount it takes.
type Holder struct {
	Pod    string // NAMESPACE/NAME
	Amount string
}
