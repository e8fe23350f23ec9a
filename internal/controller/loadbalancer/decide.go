package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/podutil"
)

// world is what the decision depends on.
type world struct {
	services []*corev1.Service
	nodes    []*corev1.Node
	// pods are those that are on a node.
	pods []*corev1.Pod
}

// verdict is what a Service of the type LoadBalancer gets.
type verdict struct {
	service *corev1.Service
	ingress []corev1.LoadBalancerIngress
	// conflicts say who has a port of the Service, on which node, one for each.
	conflicts []string
}

// socket is a port of a node.
type socket struct {
	node     string
	protocol corev1.Protocol
	port     int32
}

// holder is who has a socket, and since when.
type holder struct {
	who   string
	since int64 // Unix time in seconds
}

// ours reports whether the Service gets the nodes' addresses: of the type LoadBalancer, and no other implementation is
// asked for.
func ours(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

// decide returns the addresses of all Services that get any: those of the nodes on which all their ports are free. Of
// several that want a port, the oldest has it.
func decide(w world) []verdict {
	var want []*corev1.Service
	for _, s := range w.services {
		if ours(s) {
			want = append(want, s)
		}
	}
	if len(want) == 0 {
		return nil
	}
	slices.SortFunc(want, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	nodes := usable(w.nodes)
	taken := occupied(w, nodes)
	out := make([]verdict, 0, len(want))
	for _, s := range want {
		v := verdict{service: s}
		local := localNodes(s, w.pods)
		for _, n := range nodes {
			if local != nil && !local[n.Name] {
				continue
			}
			addresses := addressesOf(n, s.Spec.IPFamilies)
			if len(addresses) == 0 {
				continue
			}
			if conflict := conflictOn(n, s, taken); conflict != "" {
				v.conflicts = append(v.conflicts, conflict)
				continue
			}
			for _, p := range s.Spec.Ports {
				taken[socket{n.Name, p.Protocol, p.Port}] = holder{who: fmt.Sprintf("service %s/%s", s.Namespace, s.Name), since: s.CreationTimestamp.Unix()}
			}
			for _, ip := range addresses {
				v.ingress = append(v.ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: new(corev1.LoadBalancerIPModeVIP)})
			}
		}
		out = append(out, v)
	}
	return out
}

// usable returns the nodes that serve load balancers, by name: not excluded by their label, and ready, unless none is.
func usable(all []*corev1.Node) []*corev1.Node {
	var in, ready []*corev1.Node
	for _, n := range all {
		if _, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]; excluded || n.DeletionTimestamp != nil {
			continue
		}
		in = append(in, n)
		if isReady(n) {
			ready = append(ready, n)
		}
	}
	if len(ready) > 0 {
		in = ready
	}
	slices.SortFunc(in, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return in
}

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// localNodes returns the nodes that have a ready Pod of the Service, if only these answer for it, or nil if all do.
func localNodes(s *corev1.Service, pods []*corev1.Pod) map[string]bool {
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || s.Spec.Selector == nil {
		return nil
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	out := map[string]bool{}
	for _, p := range pods {
		if p.Namespace == s.Namespace && serves(s, p) && selector.Matches(labels.Set(p.Labels)) {
			out[p.Spec.NodeName] = true
		}
	}
	return out
}

func serves(s *corev1.Service, p *corev1.Pod) bool {
	return !podutil.Ended(p) && p.Status.PodIP != "" && (podutil.IsReady(p) || s.Spec.PublishNotReadyAddresses)
}

// addressesOf returns the node's external addresses of the families, or its internal ones if it has no external one.
func addressesOf(n *corev1.Node, families []corev1.IPFamily) []string {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		var out []string
		for _, family := range families {
			for _, a := range n.Status.Addresses {
				ip, err := netip.ParseAddr(a.Address)
				if err == nil && a.Type == kind && ip.Is4() == (family == corev1.IPv4Protocol) && !slices.Contains(out, a.Address) {
					out = append(out, a.Address)
				}
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// occupied returns the ports of nodes that others have: the node itself, Pods with host ports, and node ports.
func occupied(w world, nodes []*corev1.Node) map[socket]holder {
	out := map[socket]holder{}
	take := func(at socket, h holder) {
		if have, ok := out[at]; !ok || h.since < have.since {
			out[at] = h
		}
	}
	for _, n := range nodes {
		if port := n.Status.DaemonEndpoints.KubeletEndpoint.Port; port != 0 {
			take(socket{n.Name, corev1.ProtocolTCP, port}, holder{who: "the node itself"})
		}
	}
	for _, s := range w.services {
		since := s.CreationTimestamp.Unix()
		for _, p := range s.Spec.Ports {
			for _, n := range nodes {
				switch {
				case s.Namespace == "default" && s.Name == "kubernetes": // the API server's own port
					take(socket{n.Name, corev1.ProtocolTCP, p.TargetPort.IntVal}, holder{who: "the API server"})
				case p.NodePort != 0:
					take(socket{n.Name, p.Protocol, p.NodePort}, holder{who: fmt.Sprintf("service %s/%s as its node port", s.Namespace, s.Name), since: since})
				}
			}
		}
	}
	for _, pod := range w.pods {
		if podutil.Ended(pod) {
			continue
		}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			for _, p := range c.Ports {
				if p.HostPort != 0 {
					take(socket{pod.Spec.NodeName, p.Protocol, p.HostPort}, holder{fmt.Sprintf("pod %s/%s", pod.Namespace, pod.Name), pod.CreationTimestamp.Unix()})
				}
			}
		}
	}
	return out
}

// conflictOn returns who has a port of the Service on the node and was there first, or "".
func conflictOn(n *corev1.Node, s *corev1.Service, taken map[socket]holder) string {
	for _, p := range s.Spec.Ports {
		if h, ok := taken[socket{n.Name, p.Protocol, p.Port}]; ok && h.since <= s.CreationTimestamp.Unix() {
			return fmt.Sprintf("port %d/%s of node %s is taken by %s", p.Port, p.Protocol, n.Name, h.who)
		}
	}
	return ""
}
