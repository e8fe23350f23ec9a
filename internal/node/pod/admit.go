package pod

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/podutil"
)

// Room is what a node has for Pods, and what is taken of it.
type Room struct {
	node *v1.Node
	pods []*v1.Pod
	// used is what the first pods, as many as are summed, request: it is not computed before somebody asks.
	used   v1.ResourceList
	summed int
}

// NewRoom returns the room of a node with these Pods on it.
func NewRoom(node *v1.Node, pods []*v1.Pod) *Room {
	return &Room{node: node, pods: slices.Clip(pods), used: v1.ResourceList{}}
}

// Take counts one Pod more.
func (r *Room) Take(p *v1.Pod) { r.pods = append(r.pods, p) }

// sum returns what the Pods request together.
func (r *Room) sum() v1.ResourceList {
	for ; r.summed < len(r.pods); r.summed++ {
		for name, q := range resourcehelper.PodRequests(r.pods[r.summed], resourcehelper.PodResourcesOptions{UseStatusResources: true}) {
			sum := r.used[name]
			sum.Add(q)
			r.used[name] = sum
		}
	}
	return r.used
}

// Admit returns why the node does not take the Pod in, nil when it does. The scheduler has asked the same, but another
// scheduler, a static Pod or a changed node can have come between.
func (r *Room) Admit(p *v1.Pod) *Verdict {
	if v := unsupported(p, r.node); v != nil {
		return v
	}
	for _, s := range r.shortages(p) {
		return s.verdict()
	}
	return r.predicates(p)
}

// Admit returns why the node does not take the Pod in next to the others that are there, nil when it does.
func Admit(p *v1.Pod, node *v1.Node, others []*v1.Pod) *Verdict {
	return NewRoom(node, others).Admit(p)
}

// unsupported answers what the Pod asks for that this node can never give.
func unsupported(p *v1.Pod, node *v1.Node) *Verdict {
	if want, ok := p.Labels[v1.LabelOSStable]; ok && want != runtime.GOOS {
		return &Verdict{
			Reason:  "PodOSSelectorNodeLabelDoesNotMatch",
			Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
		}
	}
	if p.Spec.OS != nil && string(p.Spec.OS.Name) != runtime.GOOS {
		return &Verdict{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if sc := p.Spec.SecurityContext; sc != nil && sc.SupplementalGroupsPolicy != nil &&
		*sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict && !supplementalGroups(node) {
		return &Verdict{
			Reason:  "SupplementalGroupsPolicyNotSupported",
			Message: "SupplementalGroupsPolicy=Strict is not supported in this node",
		}
	}
	return nil
}

func supplementalGroups(node *v1.Node) bool {
	f := node.Status.Features
	return f != nil && f.SupplementalGroupsPolicy != nil && *f.SupplementalGroupsPolicy
}

// shortage is a resource that the node has too little of for a Pod.
type shortage struct {
	name             v1.ResourceName
	want, used, room int64
}

func (s shortage) verdict() *Verdict {
	return &Verdict{
		Reason: "OutOf" + string(s.name),
		Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			s.name, s.want, s.used, s.room),
	}
}

// shortages returns all resources that the node has too little of for one Pod more.
func (r *Room) shortages(p *v1.Pod) (short []shortage) {
	allocatable := r.node.Status.Allocatable
	if room := allocatable.Pods().Value(); int64(len(r.pods))+1 > room {
		short = append(short, shortage{v1.ResourcePods, 1, int64(len(r.pods)), room})
	}
	wants := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	for name, q := range wants {
		// A resource that the node does not know is one of the cluster's, which the node does not count.
		if _, known := allocatable[name]; q.IsZero() || (!known && extended(name)) {
			delete(wants, name)
		}
	}
	if len(wants) == 0 {
		return short
	}
	used := r.sum()
	for _, name := range inOrder(wants) {
		want, have, room := amount(name, wants[name]), amount(name, used[name]), amount(name, allocatable[name])
		if want > room-have {
			short = append(short, shortage{name, want, have, room})
		}
	}
	return short
}

// inOrder lists resources as the scheduler checks them: cpu, memory and ephemeral storage first.
func inOrder(list v1.ResourceList) []v1.ResourceName {
	first := []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage}
	var names []v1.ResourceName
	for _, name := range first {
		if _, ok := list[name]; ok {
			names = append(names, name)
		}
	}
	for name := range list {
		switch name {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage:
		default:
			names = append(names, name)
		}
	}
	return names
}

// extended reports whether the resource is one that is not Kubernetes' own.
func extended(name v1.ResourceName) bool {
	s := string(name)
	return strings.Contains(s, "/") && !strings.Contains(s, "kubernetes.io/") && !strings.HasPrefix(s, v1.DefaultResourceRequestsPrefix)
}

// amount is a quantity in the unit it is counted in: thousandths of CPUs, else ones.
func amount(name v1.ResourceName, q resource.Quantity) int64 {
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// predicates returns what else of the Pod and the node does not go together.
func (r *Room) predicates(p *v1.Pod) *Verdict {
	node := r.node
	failed := func(name, words string) *Verdict {
		return &Verdict{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, words)}
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node); err != nil || !ok {
		return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	if p.Spec.NodeName != "" && p.Spec.NodeName != node.Name {
		return failed("NodeName", "node(s) didn't match the requested node name")
	}
	if r.portsTaken(p) {
		return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
	}
	if podutil.IsStatic(p) {
		return nil
	}
	evicting := func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }
	if _, bad := corev1.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, p.Spec.Tolerations, evicting, false); bad {
		return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

// hostPort is a port of the node that a container asks for.
type hostPort struct {
	ip       string
	protocol v1.Protocol
	port     int32
}

func hostPorts(p *v1.Pod) []hostPort {
	var ports []hostPort
	add := func(list []v1.Container, all bool) {
		for i := range list {
			if !all && !podutil.IsSidecar(&list[i]) {
				continue
			}
			for _, c := range list[i].Ports {
				if c.HostPort > 0 {
					hp := hostPort{ip: c.HostIP, protocol: c.Protocol, port: c.HostPort}
					if hp.ip == "" {
						hp.ip = "0.0.0.0"
					}
					if hp.protocol == "" {
						hp.protocol = v1.ProtocolTCP
					}
					ports = append(ports, hp)
				}
			}
		}
	}
	add(p.Spec.InitContainers, false)
	add(p.Spec.Containers, true)
	return ports
}

// portsTaken reports whether a port of the node that the Pod wants is another's.
func (r *Room) portsTaken(p *v1.Pod) bool {
	wants := hostPorts(p)
	if len(wants) == 0 {
		return false
	}
	for _, other := range r.pods {
		for _, have := range hostPorts(other) {
			for _, want := range wants {
				sameIP := have.ip == want.ip || have.ip == "0.0.0.0" || want.ip == "0.0.0.0"
				if sameIP && have.port == want.port && have.protocol == want.protocol {
					return true
				}
			}
		}
	}
	return false
}
