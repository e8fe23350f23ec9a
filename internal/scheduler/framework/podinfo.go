package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodInfo is a Pod with what decisions need of it. It is never changed once made.
type PodInfo struct {
	Pod *corev1.Pod
	// Request is what the Pod takes of a node.
	Request Resource
	// ScoreRequest is Request with a small amount of CPU and memory for containers that request none.
	ScoreRequest Resource
	// HostPorts are the ports of the node that the Pod takes.
	HostPorts []HostPort
	// Class is what other Pods' rules see of it, and its own rules about other Pods.
	Class *Class
	// Nodes is the node selector and the required node affinity.
	Nodes NodeSelector
	// Priority is the Pod's priority, 0 when it has none.
	Priority int32
	// Bad is set when a selector cannot be read; such a Pod fits nowhere.
	Bad error
}

// HostPort is a port of a node that a container takes.
type HostPort struct {
	IP       string // "0.0.0.0" for every address
	Protocol corev1.Protocol
	Port     int32
}

// NewPodInfo reads a Pod.
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

// Name is the Pod's namespace and name.
func (p *PodInfo) Name() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Pod.Namespace, Name: p.Pod.Name}
}

// SameOnNode says whether two states of a Pod that is on a node are the same to every decision, so that the
// older may stand for the newer. Most of what a node agent reports of a running Pod changes nothing.
func SameOnNode(a, b *PodInfo) bool {
	return a.Class == b.Class && a.Priority == b.Priority &&
		a.Request.equal(&b.Request) && a.ScoreRequest.equal(&b.ScoreRequest) && slices.Equal(a.HostPorts, b.HostPorts) &&
		a.Pod.Status.StartTime.Equal(b.Pod.Status.StartTime) && disrupted(a.Pod) == disrupted(b.Pod)
}

// Preempted says whether the Pod is ending because the scheduler preempted it.
func Preempted(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && disrupted(pod) == corev1.PodReasonPreemptionByScheduler
}

// disrupted says why the Pod is about to go, "" when it is not.
func disrupted(pod *corev1.Pod) string {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c.Reason
		}
	}
	return ""
}

// hostPorts lists the node's ports that the Pod's containers take. Ordinary init containers take theirs one
// after the other, before the others start, and are not counted; sidecars are.
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
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
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

// Conflicts says whether two ports cannot both be taken on one node.
func (h HostPort) Conflicts(o HostPort) bool {
	return h.Port == o.Port && h.Protocol == o.Protocol && (h.IP == o.IP || h.IP == anyIP || o.IP == anyIP)
}
