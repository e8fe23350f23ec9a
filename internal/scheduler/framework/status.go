package framework

import (
	"fmt"
	"slices"
	"strings"
)

// Code says what kind of answer a plugin gave.
type Code int

const (
	// Unschedulable: no; but preempting Pods could make it yes.
	Unschedulable Code = iota
	// Unresolvable: no, and no preemption would help.
	Unresolvable
	// Pending: not yet; the plugin will say when by an event of its own.
	Pending
	// Failed: the plugin could not tell. Err says why.
	Failed
)

// Status is a plugin's refusal or failure; nil means yes. It is shared and must not be changed.
type Status struct {
	Code    Code
	Plugin  string
	Reasons []string // in Kubernetes' words, as they are counted in messages
	Err     error
}

// Refuse makes a refusal that preemption could lift.
func Refuse(plugin string, reasons ...string) *Status {
	return &Status{Code: Unschedulable, Plugin: plugin, Reasons: reasons}
}

// RefuseForGood makes a refusal that preemption cannot lift.
func RefuseForGood(plugin string, reasons ...string) *Status {
	return &Status{Code: Unresolvable, Plugin: plugin, Reasons: reasons}
}

// Fail makes the answer of a plugin that could not tell.
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

// NoneAvailable says, as Kubernetes does, that none of the nodes is available, and for how many of them each
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

// Detail explains a refusal in numbers or names, for people. The amounts are set for resources only.
type Detail struct {
	// Plugin and Reason are those of the refusal.
	Plugin, Reason string
	// Text says what is in the way, such as "taint gpu=yes:NoSchedule is not tolerated".
	Text string
	// Resource is what is short; Needs, Free and Of are in Kubernetes' notation.
	Resource, Needs, Free, Of string
	// Holders are who takes most of the resource, the largest first.
	Holders []Holder
	// Mend says what would lift the refusal.
	Mend string
}

// Holder is a Pod and how much it takes.
type Holder struct {
	Pod    string // NAMESPACE/NAME
	Amount string
}
