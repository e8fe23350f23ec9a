package netpolicy

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/podutil"
)

// strip keeps of a Pod what policies look at.
func strip(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: identity(&p.ObjectMeta),
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
	if hash, ok := p.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		out.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: hash}
	}
	ports := func(c *corev1.Container) []corev1.Container {
		named := slices.DeleteFunc(slices.Clone(c.Ports), func(p corev1.ContainerPort) bool { return p.Name == "" })
		if len(named) == 0 {
			return nil
		}
		return []corev1.Container{{Name: c.Name, Ports: named, RestartPolicy: c.RestartPolicy}}
	}
	for i := range p.Spec.Containers {
		out.Spec.Containers = append(out.Spec.Containers, ports(&p.Spec.Containers[i])...)
	}
	for i := range p.Spec.InitContainers {
		if podutil.IsSidecar(&p.Spec.InitContainers[i]) {
			out.Spec.InitContainers = append(out.Spec.InitContainers, ports(&p.Spec.InitContainers[i])...)
		}
	}
	return out
}

// sandboxUID is the UID that the Pod's sandbox has: a static Pod's is not its mirror's.
func sandboxUID(p *corev1.Pod) types.UID {
	if hash, ok := p.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		return types.UID(hash)
	}
	return p.UID
}

// podOf is a Pod as policies see it, from its object, nil when there is none, and its sandboxes on this node. It is false for one
// that has no addresses of its own. The addresses of a Pod of this node are its sandboxes' alone: what its status says may be
// another Pod's by now.
func podOf(p *corev1.Pod, sandboxes []network.Sandbox, node string) (pod, bool) {
	var out pod
	for _, s := range sandboxes {
		out.namespace = s.Namespace
		out.addrs = append(out.addrs, s.IPs...)
		out.links = append(out.links, s.Link)
	}
	if p == nil {
		return out, len(sandboxes) > 0
	}
	out.namespace, out.labels, out.ports = p.Namespace, labels.Set(p.Labels), portsOf(p)
	if len(sandboxes) > 0 {
		return out, true
	}
	if p.Spec.HostNetwork || podutil.Ended(p) || p.Spec.NodeName == node {
		return pod{}, false
	}
	ips := p.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.addrs = append(out.addrs, a.Unmap())
		}
	}
	return out, len(out.addrs) > 0
}

func portsOf(p *corev1.Pod) []containerPort {
	var out []containerPort
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, has := range c.Ports {
			named := namedPort{protocol(&has.Protocol), has.Name}
			if has.Protocol == "" {
				named.proto = protocol(nil)
			}
			if has.Name != "" && has.ContainerPort > 0 && has.ContainerPort <= 65535 {
				out = append(out, containerPort{named, uint16(has.ContainerPort)})
			}
		}
	}
	return out
}

func sameSandboxes(a, b []network.Sandbox) bool {
	return slices.EqualFunc(a, b, func(a, b network.Sandbox) bool { return a.ID == b.ID && slices.Equal(a.IPs, b.IPs) })
}

func sameNamespaces(a, b map[string]labels.Set) bool {
	return maps.EqualFunc(a, b, func(a, b labels.Set) bool { return maps.Equal(a, b) })
}

// confirmations are the sandboxes for which Ready has returned.
type confirmations struct {
	mu sync.Mutex
	of map[string]bool
}

func (c *confirmations) has(sandbox string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[sandbox]
}

// confirmSlack is how many sandboxes more than there are may be remembered, before those that are gone are forgotten.
const confirmSlack = 256

func (c *confirmations) add(sandbox string, n Network) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[sandbox] = true
	if len(c.of) <= confirmSlack {
		return
	}
	all := n.Sandboxes()
	if len(c.of) <= len(all)+confirmSlack {
		return
	}
	kept := make(map[string]bool, len(all))
	for _, s := range all {
		kept[s.ID] = c.of[s.ID]
	}
	c.of = kept
}
