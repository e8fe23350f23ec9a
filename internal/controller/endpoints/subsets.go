package endpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// mostAddresses is the maximum number of addresses in an Endpoints object. Further ones are left out, and an
// annotation marks the object as truncated.
const mostAddresses = 1000

// subsets converts the backends to the form of Endpoints. Ports with exactly the same addresses form one
// subset. It reports whether addresses were left out.
func subsets(service *corev1.Service, all []backend) (out []corev1.EndpointSubset, truncated bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(b backend) bool {
		return b.terminating && !service.Spec.PublishNotReadyAddresses || ipOf(b.pod, families(service)[0]) == ""
	})
	if len(all) > mostAddresses { // keep the ready ones
		slices.SortStableFunc(all, func(a, b backend) int { return boolOrder(a.ready) - boolOrder(b.ready) })
		all, truncated = all[:mostAddresses], true
	}
	if len(service.Spec.Ports) == 0 {
		if service.Spec.ClusterIP != corev1.ClusterIPNone || len(all) == 0 {
			return nil, truncated
		}
		return []corev1.EndpointSubset{subset(service, all, nil)}, truncated
	}
	having := map[port][]int{} // the backends that have a port
	app := map[port]*string{}
	for i, b := range all {
		for _, p := range b.ports {
			key := port{name: p.name, protocol: p.protocol, number: p.number}
			having[key] = append(having[key], i)
			app[key] = p.appProtocol
		}
	}
	together := map[string][]port{} // ports by the backends that have them
	for p, who := range having {
		p.appProtocol = app[p]
		key := fmt.Sprint(who)
		together[key] = append(together[key], p)
	}
	for _, ports := range together {
		slices.SortFunc(ports, port.compare)
		who := having[port{name: ports[0].name, protocol: ports[0].protocol, number: ports[0].number}]
		members := make([]backend, 0, len(who))
		for _, i := range who {
			members = append(members, all[i])
		}
		out = append(out, subset(service, members, ports))
	}
	slices.SortFunc(out, func(a, b corev1.EndpointSubset) int {
		return strings.Compare(fmt.Sprint(a.Ports, firstIP(a)), fmt.Sprint(b.Ports, firstIP(b)))
	})
	return out, truncated
}

func boolOrder(first bool) int {
	if first {
		return 0
	}
	return 1
}

func firstIP(s corev1.EndpointSubset) string {
	for _, a := range slices.Concat(s.Addresses, s.NotReadyAddresses) {
		return a.IP
	}
	return ""
}

func subset(service *corev1.Service, members []backend, ports []port) corev1.EndpointSubset {
	var s corev1.EndpointSubset
	for _, b := range members {
		a := corev1.EndpointAddress{
			IP: ipOf(b.pod, families(service)[0]), Hostname: hostname(service, b.pod), NodeName: &b.pod.Spec.NodeName, TargetRef: reference(b.pod),
		}
		if b.ready || b.serving {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		}
	}
	for _, p := range ports {
		s.Ports = append(s.Ports, corev1.EndpointPort{Name: p.name, Protocol: p.protocol, Port: p.number, AppProtocol: p.appProtocol})
	}
	return s
}

// Labels and annotations of Endpoints and EndpointSlices.
const (
	managedByEndpoints = "endpoints.kubernetes.io/managed-by"
	endpointController = "endpoint-controller"
	overCapacity       = corev1.EndpointsOverCapacity
)

// endpointsOf returns the Endpoints of the Service. have is the existing object, or nil; its annotations are
// kept.
func endpointsOf(service *corev1.Service, all []backend, have *corev1.Endpoints) *corev1.Endpoints {
	out := &corev1.Endpoints{}
	if have != nil {
		out = have.DeepCopy()
	}
	out.Namespace, out.Name = service.Namespace, service.Name
	out.Labels = maps.Clone(service.Labels)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	delete(out.Labels, corev1.IsHeadlessService)
	if headless(service) {
		out.Labels[corev1.IsHeadlessService] = ""
	}
	out.Labels[managedByEndpoints] = endpointController
	var truncated bool
	out.Subsets, truncated = subsets(service, all)
	delete(out.Annotations, overCapacity)
	if truncated {
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[overCapacity] = "truncated"
	}
	return out
}
