package framework

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
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
	// Affinity and AntiAffinity are the required terms about other Pods.
	Affinity, AntiAffinity []PodTerm
	// PreferredAffinity and PreferredAntiAffinity are the preferred ones.
	PreferredAffinity, PreferredAntiAffinity []WeightedPodTerm
	// NodeAffinity is the required node affinity and the node selector.
	NodeAffinity nodeaffinity.RequiredNodeAffinity
	// Priority is the Pod's priority, 0 when it has none.
	Priority int32
	// Bad is set when the Pod holds a selector that cannot be read; such a Pod fits nowhere.
	Bad error
}

// HostPort is a port of a node that a container takes.
type HostPort struct {
	IP       string // "0.0.0.0" for every address
	Protocol corev1.Protocol
	Port     int32
}

// PodTerm is one term of affinity or anti-affinity between Pods.
type PodTerm struct {
	Namespaces sets.Set[string]
	// NamespaceSelector selects further namespaces by their labels; nil selects none.
	NamespaceSelector labels.Selector
	Selector          labels.Selector
	TopologyKey       string
}

// WeightedPodTerm is a preferred term.
type WeightedPodTerm struct {
	PodTerm
	Weight int32
}

// NewPodInfo reads a Pod.
func NewPodInfo(pod *corev1.Pod) *PodInfo {
	p := &PodInfo{
		Pod:          pod,
		Request:      podRequests(pod),
		ScoreRequest: podRequestsForScore(pod),
		HostPorts:    hostPorts(pod),
		NodeAffinity: nodeaffinity.GetRequiredNodeAffinity(pod),
	}
	if pod.Spec.Priority != nil {
		p.Priority = *pod.Spec.Priority
	}
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			p.Affinity = p.terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			p.PreferredAffinity = p.weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if a.PodAntiAffinity != nil {
			p.AntiAffinity = p.terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			p.PreferredAntiAffinity = p.weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
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
	return maps.Equal(a.Pod.Labels, b.Pod.Labels) && a.Priority == b.Priority &&
		a.Request.equal(&b.Request) && a.ScoreRequest.equal(&b.ScoreRequest) &&
		(a.Pod.DeletionTimestamp == nil) == (b.Pod.DeletionTimestamp == nil) &&
		a.Pod.Status.StartTime.Equal(b.Pod.Status.StartTime) && disrupted(a.Pod) == disrupted(b.Pod)
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

// HasAffinity says whether the Pod has any term about other Pods.
func (p *PodInfo) HasAffinity() bool {
	return len(p.Affinity)+len(p.AntiAffinity)+len(p.PreferredAffinity)+len(p.PreferredAntiAffinity) > 0
}

func (p *PodInfo) terms(in []corev1.PodAffinityTerm) []PodTerm {
	out := make([]PodTerm, 0, len(in))
	for i := range in {
		out = append(out, p.term(&in[i]))
	}
	return out
}

func (p *PodInfo) weighted(in []corev1.WeightedPodAffinityTerm) []WeightedPodTerm {
	out := make([]WeightedPodTerm, 0, len(in))
	for i := range in {
		out = append(out, WeightedPodTerm{PodTerm: p.term(&in[i].PodAffinityTerm), Weight: in[i].Weight})
	}
	return out
}

// term reads one term. A term that names no namespaces means the Pod's own. The API server has merged
// matchLabelKeys into the selector.
func (p *PodInfo) term(in *corev1.PodAffinityTerm) PodTerm {
	t := PodTerm{TopologyKey: in.TopologyKey, Namespaces: sets.New(in.Namespaces...)}
	if len(in.Namespaces) == 0 && in.NamespaceSelector == nil {
		t.Namespaces.Insert(p.Pod.Namespace)
	}
	t.Selector = p.selector(in.LabelSelector)
	if in.NamespaceSelector != nil {
		t.NamespaceSelector = p.selector(in.NamespaceSelector)
	}
	return t
}

func (p *PodInfo) selector(in *metav1.LabelSelector) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		p.Bad = fmt.Errorf("read a label selector of pod %s: %w", p.Name(), err)
		return labels.Nothing()
	}
	return s
}

// Matches says whether the term is about the Pod. namespaceLabels answers with the labels of its namespace.
func (t *PodTerm) Matches(pod *corev1.Pod, namespaceLabels func(string) labels.Set) bool {
	if !t.Namespaces.Has(pod.Namespace) && (t.NamespaceSelector == nil || !t.NamespaceSelector.Matches(namespaceLabels(pod.Namespace))) {
		return false
	}
	return t.Selector.Matches(labels.Set(pod.Labels))
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
