package services

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sys/unix"
)

// service is the part of a Service that decides where its packets go.
type service struct {
	name    types.NamespacedName
	created time.Time
	ports   []servicePort
	// clusterIPs, externalIPs and balancerIPs are the addresses by which it is reached.
	clusterIPs, externalIPs, balancerIPs []netip.Addr
	// sources are the ranges that may use balancerIPs; none is all.
	sources []netip.Prefix
	// internalLocal and externalLocal are the traffic policies Local.
	internalLocal, externalLocal bool
	// affinity is for how many seconds a client stays with an endpoint; 0 is not.
	affinity uint32
	// health is the port of the health check; 0 is none.
	health uint16
}

type servicePort struct {
	name     string
	proto    uint8
	port     uint16
	nodePort uint16
}

var protocols = map[corev1.Protocol]uint8{
	"": unix.IPPROTO_TCP, corev1.ProtocolTCP: unix.IPPROTO_TCP, corev1.ProtocolUDP: unix.IPPROTO_UDP, corev1.ProtocolSCTP: unix.IPPROTO_SCTP,
}

// serviceOf reads a Service. It returns nil for one that has no address: headless ones and those of type ExternalName.
func serviceOf(o *corev1.Service) *service {
	if o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.ClusterIP == corev1.ClusterIPNone || o.Spec.ClusterIP == "" {
		return nil
	}
	s := &service{
		name: types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, created: o.CreationTimestamp.Time,
		internalLocal: o.Spec.InternalTrafficPolicy != nil && *o.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}
	ips := o.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{o.Spec.ClusterIP}
	}
	s.clusterIPs, s.externalIPs = addresses(ips), addresses(o.Spec.ExternalIPs)
	external := o.Spec.Type == corev1.ServiceTypeNodePort || o.Spec.Type == corev1.ServiceTypeLoadBalancer
	s.externalLocal = (external || len(s.externalIPs) > 0) && o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if o.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range o.Status.LoadBalancer.Ingress {
			if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
				s.balancerIPs = append(s.balancerIPs, addresses([]string{in.IP})...)
			}
		}
		for _, text := range o.Spec.LoadBalancerSourceRanges {
			if p, err := netip.ParsePrefix(text); err == nil {
				s.sources = append(s.sources, p.Masked())
			}
		}
		if s.externalLocal {
			s.health = uint16(o.Spec.HealthCheckNodePort)
		}
	}
	if o.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		s.affinity = uint32(corev1.DefaultClientIPServiceAffinitySeconds)
		if c := o.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			s.affinity = uint32(*c.ClientIP.TimeoutSeconds)
		}
	}
	for _, p := range o.Spec.Ports {
		sp := servicePort{name: p.Name, proto: protocols[p.Protocol], port: uint16(p.Port)}
		if external {
			sp.nodePort = uint16(p.NodePort)
		}
		if sp.proto != 0 {
			s.ports = append(s.ports, sp)
		}
	}
	return s
}

// addresses reads addresses and leaves out what is none.
func addresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// external reports whether the service is reached from outside the cluster.
func (s *service) external() bool {
	return len(s.externalIPs)+len(s.balancerIPs) > 0 || slices.ContainsFunc(s.ports, func(p servicePort) bool { return p.nodePort != 0 })
}

// older orders Services that want the same address and port: the older has it.
func (s *service) older(o *service) bool {
	return cmp.Or(s.created.Compare(o.created), cmp.Compare(s.name.Namespace, o.name.Namespace), cmp.Compare(s.name.Name, o.name.Name)) < 0
}

// slice is the part of an EndpointSlice that decides where packets go.
type slice struct {
	v4        bool
	ports     []slicePort
	endpoints []endpoint
}

type slicePort struct {
	name  string
	proto uint8
	port  uint16
}

// endpoint is one endpoint of a slice, with all of the slice's ports.
type endpoint struct {
	addr                        netip.Addr
	ready, serving, terminating bool
	// local is whether it is on this node.
	local bool
	// nodeHints and zoneHints report whether there are any hints, forNode whether one of them is for this node.
	nodeHints, forNode bool
	zoneHints          []string
}

// sliceOf reads an EndpointSlice as seen from a node. It returns nil for one without addresses of IP.
func sliceOf(o *discoveryv1.EndpointSlice, node string) *slice {
	if o.AddressType != discoveryv1.AddressTypeIPv4 && o.AddressType != discoveryv1.AddressTypeIPv6 {
		return nil
	}
	s := &slice{v4: o.AddressType == discoveryv1.AddressTypeIPv4}
	for _, p := range o.Ports {
		var proto corev1.Protocol
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if p.Port == nil || protocols[proto] == 0 {
			continue
		}
		sp := slicePort{proto: protocols[proto], port: uint16(*p.Port)}
		if p.Name != nil {
			sp.name = *p.Name
		}
		s.ports = append(s.ports, sp)
	}
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		// Further addresses have no meaning (the type's documentation).
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil || addr.Is4() != s.v4 {
			continue
		}
		ep := endpoint{
			addr: addr, ready: isTrue(e.Conditions.Ready, true), serving: isTrue(e.Conditions.Serving, true), terminating: isTrue(e.Conditions.Terminating, false),
			local: e.NodeName != nil && *e.NodeName == node,
		}
		if e.Hints != nil {
			ep.nodeHints = len(e.Hints.ForNodes) > 0
			for _, n := range e.Hints.ForNodes {
				ep.forNode = ep.forNode || n.Name == node
			}
			for _, z := range e.Hints.ForZones {
				ep.zoneHints = append(ep.zoneHints, z.Name)
			}
		}
		s.endpoints = append(s.endpoints, ep)
	}
	return s
}

func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

// serviceNameOf is the Service that a slice belongs to; ok is false if it belongs to none.
func serviceNameOf(o metav1.Object) (name types.NamespacedName, ok bool) {
	of := o.GetLabels()[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: of}, of != ""
}
