package endpoints

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// perSlice is the maximum number of endpoints in a slice (kube-controller-manager's --max-endpoints-per-slice).
const perSlice = 100

// sliceController is the manager named in the slices' labels.
const sliceController = "endpointslice-controller.k8s.io"

// slicesOf returns the slices of the Service: per address family and set of ports, up to perSlice Pods each.
// zone returns the zone of a node.
func slicesOf(service *corev1.Service, all []backend, zone func(node string) string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, family := range families(service) {
		all := slices.DeleteFunc(slices.Clone(all), func(b backend) bool { return ipOf(b.pod, family) == "" })
		if len(all) == 0 { // a Service without Pods also has a slice
			out = append(out, newSlice(service, family, nil, zone))
		}
		for _, members := range groupByPorts(all) {
			for part := range slices.Chunk(members, perSlice) {
				out = append(out, newSlice(service, family, part, zone))
			}
		}
	}
	return out
}

// groupByPorts groups Pods with the same ports.
func groupByPorts(all []backend) [][]backend {
	var out [][]backend
	for _, b := range all {
		i := slices.IndexFunc(out, func(g []backend) bool { return slices.EqualFunc(g[0].ports, b.ports, port.same) })
		if i < 0 {
			out = append(out, []backend{b})
			continue
		}
		out[i] = append(out[i], b)
	}
	return out
}

func newSlice(service *corev1.Service, family corev1.IPFamily, members []backend, zone func(string) string) *discoveryv1.EndpointSlice {
	labels := maps.Clone(service.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, corev1.IsHeadlessService)
	labels[discoveryv1.LabelServiceName] = service.Name
	labels[discoveryv1.LabelManagedBy] = sliceController
	if headless(service) {
		labels[corev1.IsHeadlessService] = ""
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: service.Name + "-", Namespace: service.Namespace, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressType(family),
	}
	for _, b := range members {
		e := discoveryv1.Endpoint{
			Addresses:  []string{ipOf(b.pod, family)},
			Conditions: discoveryv1.EndpointConditions{Ready: &b.ready, Serving: &b.serving, Terminating: &b.terminating},
			TargetRef:  reference(b.pod),
		}
		if b.pod.Spec.NodeName != "" {
			e.NodeName = &b.pod.Spec.NodeName
			if z := zone(b.pod.Spec.NodeName); z != "" {
				e.Zone = &z
			}
		}
		if h := hostname(service, b.pod); h != "" {
			e.Hostname = &h
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	if len(members) > 0 {
		s.Ports = []discoveryv1.EndpointPort{}
		for _, p := range members[0].ports {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.name, Protocol: &p.protocol, Port: &p.number, AppProtocol: p.appProtocol})
		}
	}
	return s
}

// sliceChanges are the writes that turn the existing slices into the wanted ones.
type sliceChanges struct {
	create, update []*discoveryv1.EndpointSlice
	remove         []string
}

// reconcileSlices matches wanted slices with existing ones so that as few as possible are written: first with
// an equal slice, then with any slice of the same address family.
func reconcileSlices(want, have []*discoveryv1.EndpointSlice) sliceChanges {
	var c sliceChanges
	free := slices.Clone(have)
	take := func(match func(*discoveryv1.EndpointSlice) bool) *discoveryv1.EndpointSlice {
		i := slices.IndexFunc(free, match)
		if i < 0 {
			return nil
		}
		s := free[i]
		free = slices.Delete(free, i, i+1)
		return s
	}
	want = slices.DeleteFunc(slices.Clone(want), func(w *discoveryv1.EndpointSlice) bool {
		return take(func(h *discoveryv1.EndpointSlice) bool { return sameSlice(w, h) }) != nil
	})
	for _, w := range want {
		h := take(func(h *discoveryv1.EndpointSlice) bool { return h.AddressType == w.AddressType })
		if h == nil {
			c.create = append(c.create, w)
			continue
		}
		u := h.DeepCopy()
		u.Labels, u.OwnerReferences, u.Endpoints, u.Ports = w.Labels, w.OwnerReferences, w.Endpoints, w.Ports
		c.update = append(c.update, u)
	}
	for _, h := range free {
		c.remove = append(c.remove, h.Name)
	}
	return c
}

func sameSlice(a, b *discoveryv1.EndpointSlice) bool {
	return a.AddressType == b.AddressType && maps.Equal(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences) &&
		equality.Semantic.DeepEqual(a.Ports, b.Ports) && equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints)
}

// selectorOf returns the label selector of the Service's slices.
func selectorOf(service string) string {
	return fmt.Sprintf("%s=%s,%s=%s", discoveryv1.LabelServiceName, service, discoveryv1.LabelManagedBy, sliceController)
}
