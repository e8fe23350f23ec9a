package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long a node may be silent if it has reported its status before, and if it never has. The numbers are the
// defaults of kube-controller-manager's --node-monitor-grace-period and --node-startup-grace-period.
const (
	DefaultGrace        = 50 * time.Second
	DefaultStartupGrace = 60 * time.Second
)

// health is what the controller remembers of a node. All times come from the controller's own clock, because
// the nodes' clocks may differ from it and from each other.
type health struct {
	uid string
	// seen is when the node last gave a sign of life.
	seen time.Time
	// heartbeat and renewed are that sign: the Ready condition's last heartbeat and the lease's renewal.
	heartbeat metav1.Time
	renewed   metav1.MicroTime
	// leaseVersion is the resourceVersion of the lease as last seen.
	leaseVersion string
	// greeted is set once the event of the node's registration was recorded.
	greeted bool
}

// observe records a node's newest state. A node seen for the first time counts as alive now, unless it never
// reported: then its time runs from its creation.
func (h *health) observe(node *corev1.Node, now time.Time) {
	ready := condition(&node.Status, corev1.NodeReady)
	switch {
	case ready == nil && h.seen.IsZero():
		h.seen = node.CreationTimestamp.Time
	case ready != nil && (h.seen.IsZero() || !h.heartbeat.Equal(&ready.LastHeartbeatTime)):
		h.seen, h.heartbeat = now, ready.LastHeartbeatTime
	}
}

// renew records the newest state of a node's lease.
func (h *health) renew(renewed *metav1.MicroTime, version string, now time.Time) {
	h.leaseVersion = version
	if renewed != nil && h.renewed.Before(renewed) {
		h.renewed, h.seen = *renewed, now
	}
}

// deadline returns when the node will have been silent for too long.
func (h *health) deadline(node *corev1.Node, grace, startup time.Duration) time.Time {
	if condition(&node.Status, corev1.NodeReady) == nil {
		return h.seen.Add(startup)
	}
	return h.seen.Add(grace)
}

// reported are the conditions that only the node agent writes. They are unknown for a silent node.
var reported = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// silent returns the conditions to write for a node that has been silent for too long.
func silent(node *corev1.Node, now time.Time) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	for _, t := range reported {
		c := corev1.NodeCondition{
			Type: t, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(now),
			LastHeartbeatTime: node.CreationTimestamp,
			Reason:            "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
		}
		if have := condition(&node.Status, t); have != nil {
			if have.Status == corev1.ConditionUnknown {
				continue
			}
			c.LastHeartbeatTime = have.LastHeartbeatTime
			c.Reason, c.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
		}
		out = append(out, c)
	}
	return out
}

func condition(status *corev1.NodeStatus, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == t {
			return &status.Conditions[i]
		}
	}
	return nil
}

// readiness returns the status of the node's Ready condition, or "" if it has none.
func readiness(node *corev1.Node) corev1.ConditionStatus {
	if c := condition(&node.Status, corev1.NodeReady); c != nil {
		return c.Status
	}
	return ""
}
