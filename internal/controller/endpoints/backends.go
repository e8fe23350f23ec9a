package endpoints

import (
	"cmp"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/endpointslice"

	"podium.dev/podium/internal/podutil"
)

// backend is a Pod behind a Service.
type backend struct {
	pod *corev1.Pod
	// ready is set if the Pod is ready or need not be. terminating is set if its deletion is under way.
	ready, terminating bool
	// ports are the Service's ports as this Pod has them, in the Service's order, without those that the Pod
	// does not have.
	ports []port
}

// port is a port of a Service on a Pod.
type port struct {
	name        string
	protocol    corev1.Protocol
	number      int32
	appProtocol *string
}

func (p port) compare(o port) int {
	return cmp.Or(strings.Compare(p.name, o.name), strings.Compare(string(p.protocol), string(o.protocol)), cmp.Compare(p.number, o.number))
}

// backends returns the Pods behind the Service that have an address and have not ended, sorted by name.
func backends(service *corev1.Service, pods []*corev1.Pod) []backend {
	var out []backend
	for _, pod := range pods {
		if pod.Status.PodIP == "" || podutil.Ended(pod) {
			continue
		}
		b := backend{pod: pod, terminating: pod.DeletionTimestamp != nil}
		b.ready = service.Spec.PublishNotReadyAddresses || podutil.IsReady(pod)
		for i := range service.Spec.Ports {
			p := &service.Spec.Ports[i]
			if n, err := endpointslice.FindPort(pod, p); err == nil { // otherwise the Pod has no port of that name
				b.ports = append(b.ports, port{p.Name, p.Protocol, int32(n), p.AppProtocol})
			}
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b backend) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	return out
}

// ipOf returns the Pod's address of a family, or "" if it has none.
func ipOf(pod *corev1.Pod, family corev1.IPFamily) string {
	is := func(ip string) bool { return (net.ParseIP(ip).To4() != nil) == (family == corev1.IPv4Protocol) }
	for _, ip := range pod.Status.PodIPs {
		if ip.IP != "" && is(ip.IP) {
			return ip.IP
		}
	}
	if len(pod.Status.PodIPs) == 0 && is(pod.Status.PodIP) {
		return pod.Status.PodIP
	}
	return ""
}

// families returns the address families of the Service.
func families(service *corev1.Service) []corev1.IPFamily {
	if len(service.Spec.IPFamilies) > 0 {
		return service.Spec.IPFamilies
	}
	if ip := net.ParseIP(service.Spec.ClusterIP); ip != nil && ip.To4() == nil {
		return []corev1.IPFamily{corev1.IPv6Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// hostname returns the Pod's name below the Service's in DNS, or "" if it has none.
func hostname(service *corev1.Service, pod *corev1.Pod) string {
	if pod.Spec.Subdomain == service.Name && pod.Namespace == service.Namespace {
		return pod.Spec.Hostname
	}
	return ""
}

func headless(service *corev1.Service) bool {
	return service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.ClusterIP == ""
}

func reference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
