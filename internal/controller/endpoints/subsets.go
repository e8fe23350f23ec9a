package endpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mostAddresses is the maximum number of addresses in an Endpoints object. Further ones are left out, and an
// annotation marks the object as truncated.
const mostAddresses = 1000

// subsets converts the backends to the form of Endpoints. Ports with exactly the same addresses form one
// subset.
func subsets(service *corev1.Service, all []backend) (out []corev1.EndpointSubset) {
	all = slices.DeleteFunc(slices.Clone(all), func(b backend) bool {
		return b.terminating && !service.Spec.PublishNotReadyAddresses || ipOf(b.pod, families(service)[0]) == ""
	})
	if len(service.Spec.Ports) == 0 {
		if service.Spec.ClusterIP != corev1.ClusterIPNone || len(all) == 0 {
			return nil
		}
		return []corev1.EndpointSubset{subset(service, all, nil)}
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
	return out
}

// truncate limits the subsets to mostAddresses in all and reports whether some were left out. Ready addresses come
// first, and each subset keeps a share in proportion to what it has.
func truncate(all []corev1.EndpointSubset) bool {
	ready, rest := 0, 0
	for _, s := range all {
		ready += len(s.Addresses)
		rest += len(s.NotReadyAddresses)
	}
	if ready+rest <= mostAddresses {
		return false
	}
	room, of := mostAddresses-ready, rest
	if ready > mostAddresses {
		room, of = mostAddresses, ready
	}
	left := room
	for i := range all {
		s := &all[i]
		list := &s.NotReadyAddresses
		if ready > mostAddresses {
			s.NotReadyAddresses, list = nil, &s.Addresses
		}
		share := (len(*list)*room + of - 1) / of // rounded up
		*list = (*list)[:min(len(*list), share, left)]
		left -= len(*list)
	}
	return true
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
		if b.ready {
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

// endpointsOf returns the Endpoints of the Service. have is the existing object, whose other annotations are kept,
// or nil. The result is nil if have is right as it is. trigger is the time of the change that led to it, or zero.
func endpointsOf(service *corev1.Service, all []backend, have *corev1.Endpoints, trigger time.Time) *corev1.Endpoints {
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
	out.Subsets = subsets(service, all)
	delete(out.Annotations, overCapacity)
	if truncate(out.Subsets) {
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, overCapacity, "truncated")
	}
	if have != nil && equality.Semantic.DeepEqual(have, out) {
		return nil
	}
	delete(out.Annotations, corev1.EndpointsLastChangeTriggerTime)
	if !trigger.IsZero() {
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, corev1.EndpointsLastChangeTriggerTime, trigger.UTC().Format(time.RFC3339Nano))
	}
	return out
}
