package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/podutil"
)

// PodInfo is a Pod together with what decisions need of it. It is immutable.
type PodInfo struct {
	Pod *corev1.Pod
	// Request is the sum of what the Pod takes from a node.
	Request Resource
	// ScoreRequest is Request with a small default of CPU and memory for containers that request none.
	ScoreRequest Resource
	// HostPorts are the host ports that the Pod uses.
	HostPorts []HostPort
	// Class is the part of the Pod that rules about other Pods look at, with the Pod's own rules about others.
	Class *Class
	// Nodes is the node selector and the required node affinity.
	Nodes NodeSelector
	// Priority is the Pod's priority, or 0 if it has none.
	Priority int32
	// Bad is set when a selector cannot be parsed. Such a Pod fits no node.
	Bad error
}

// HostPort is a port of the host that a container uses.
type HostPort struct {
	IP       string // "0.0.0.0" for every address
	Protocol corev1.Protocol
	Port     int32
}

// NewPodInfo computes what decisions need of a Pod.
func NewPodInfo(pod *corev1.Pod) *PodInfo {
	requests := podRequests(pod)
	p := &PodInfo{
		Pod:          pod,
		Request:      requests,
		ScoreRequest: podRequestsForScore(pod, requests),
		HostPorts:    hostPorts(pod),
		Class:        classOf(pod),
	}
	p.Nodes, p.Bad = NewNodeSelector(pod)
	if p.Class.Bad != nil {
		p.Bad = p.Class.Bad
	}
	if pod.Spec.Priority != nil {
		p.Priority = *pod.Spec.Priority
	}
	return p
}

// Name returns the Pod's namespace and name.
func (p *PodInfo) Name() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Pod.Namespace, Name: p.Pod.Name}
}

// SameOnNode reports whether two states of a placed Pod are equal to every decision, so that the older one can
// be kept. Most status updates of a running Pod change nothing here.
func SameOnNode(a, b *PodInfo) bool {
	return a.Class == b.Class && a.Priority == b.Priority &&
		a.Request.equal(&b.Request) && a.ScoreRequest.equal(&b.ScoreRequest) && slices.Equal(a.HostPorts, b.HostPorts) &&
		a.Pod.Status.StartTime.Equal(b.Pod.Status.StartTime) && disrupted(a.Pod) == disrupted(b.Pod)
}

// Preempted reports whether the Pod is terminating because the scheduler preempted it.
func Preempted(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && disrupted(pod) == corev1.PodReasonPreemptionByScheduler
}

// disrupted returns the reason of the Pod's DisruptionTarget condition, or "" if it is not true.
func disrupted(pod *corev1.Pod) string {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c.Reason
		}
	}
	return ""
}

// hostPorts lists the host ports of the Pod's containers. Ordinary init containers run one after the other
// before the main containers start and are not counted; sidecars are.
func hostPorts(pod *corev1.Pod) []HostPort {
	var out []HostPort
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			h := HostPort{IP: port.HostIP, Protocol: port.Protocol, Port: port.HostPort}
			if h.IP == "" {
				h.IP = anyIP
			}
			if h.Protocol == "" {
				h.Protocol = corev1.ProtocolTCP
			}
			out = append(out, h)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; podutil.IsSidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

// anyIP stands for every address of a node.
const anyIP = "0.0.0.0"

// Conflicts reports whether two ports cannot both be used on one node.
func (h HostPort) Conflicts(o HostPort) bool {
	return h.Port == o.Port && h.Protocol == o.Protocol && (h.IP == o.IP || h.IP == anyIP || o.IP == anyIP)
}
