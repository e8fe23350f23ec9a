package endpointslicemirroring

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sliceutil "k8s.io/endpointslice/util"
)

// perSubset is the maximum number of addresses of a subset that are mirrored (kube-controller-manager's
// --mirroring-max-endpoints-per-subset).
const perSubset = 1000

// changes are the writes that turn the existing slices into the mirror of Endpoints, and what could not be mirrored.
type changes struct {
	create, update []*discoveryv1.EndpointSlice
	remove         []string
	// invalid counts addresses that are no IP addresses, skipped all that are not mirrored.
	invalid, skipped int
}

// group is what becomes one slice: the endpoints of one address family with the same ports.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

func (g group) key() string { return keyOf(g.family, g.ports) }

func keyOf(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	return string(family) + " " + string(sliceutil.NewPortMapKey(ports))
}

// decide returns how the slices of have become the mirror of e.
func decide(e *corev1.Endpoints, have []*discoveryv1.EndpointSlice) changes {
	var c changes
	free := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		key := keyOf(s.AddressType, s.Ports)
		free[key] = append(free[key], s)
	}
	var missing []*discoveryv1.EndpointSlice
	for _, g := range groups(e.Subsets, &c) {
		want := newSlice(e, g)
		mine := free[g.key()]
		if len(mine) == 0 {
			missing = append(missing, want)
			continue
		}
		free[g.key()] = mine[1:]
		if !same(want, mine[0]) {
			want.Name, want.GenerateName = mine[0].Name, ""
			c.update = append(c.update, want)
		}
	}
	var left []*discoveryv1.EndpointSlice
	for _, key := range slices.Sorted(maps.Keys(free)) {
		left = append(left, free[key]...)
	}
	for _, want := range missing {
		i := slices.IndexFunc(left, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == want.AddressType })
		if i < 0 {
			c.create = append(c.create, want)
			continue
		}
		want.Name, want.GenerateName = left[i].Name, ""
		c.update = append(c.update, want)
		left = slices.Delete(left, i, i+1)
	}
	for _, s := range left {
		c.remove = append(c.remove, s.Name)
	}
	return c
}

// groups returns the slices that the subsets need, and counts in c what is left out.
func groups(subsets []corev1.EndpointSubset, c *changes) []group {
	var out []group
	at := map[string]int{}
	seen := map[string]sliceutil.EndpointSet{}
	for _, s := range repack(subsets) {
		ports := slicePorts(s.Ports)
		added := 0
		add := func(a corev1.EndpointAddress, ready bool) {
			ip, err := netip.ParseAddr(a.IP)
			switch {
			case added >= perSubset:
				c.skipped++
				return
			case err != nil:
				c.invalid++
				c.skipped++
				return
			}
			added++
			family := discoveryv1.AddressTypeIPv4
			if !ip.Unmap().Is4() {
				family = discoveryv1.AddressTypeIPv6
			}
			key := keyOf(family, ports)
			if _, ok := at[key]; !ok {
				at[key] = len(out)
				out = append(out, group{family: family, ports: ports})
				seen[key] = sliceutil.EndpointSet{}
			}
			g := &out[at[key]]
			endpoint := endpointOf(ip, a, ready)
			if seen[key].Has(&endpoint) || len(g.endpoints) >= perSubset {
				return
			}
			seen[key].Insert(&endpoint)
			g.endpoints = append(g.endpoints, endpoint)
		}
		for _, a := range s.Addresses {
			add(a, true)
		}
		for _, a := range s.NotReadyAddresses {
			add(a, false)
		}
	}
	return out
}

func endpointOf(ip netip.Addr, a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip.Unmap().String()},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef:  a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

func slicePorts(all []corev1.EndpointPort) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, p := range all {
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

// repack returns the subsets in canonical form: ports with exactly the same addresses are in one subset. An address
// that is ready in one place is ready.
func repack(all []corev1.EndpointSubset) []corev1.EndpointSubset {
	type member struct {
		address corev1.EndpointAddress
		ready   bool
	}
	of := func(a corev1.EndpointAddress) string {
		uid := ""
		if a.TargetRef != nil {
			uid = string(a.TargetRef.UID)
		}
		return a.IP + " " + uid
	}
	byPort := map[string]map[string]member{}
	ports := map[string]*corev1.EndpointPort{}
	for _, s := range all {
		each := []*corev1.EndpointPort{nil} // addresses without a port
		if len(s.Ports) > 0 {
			each = nil
			for i := range s.Ports {
				each = append(each, &s.Ports[i])
			}
		}
		for _, p := range each {
			key := ""
			if p != nil {
				key = fmt.Sprintf("%05d %s %s", p.Port, p.Protocol, p.Name)
			}
			if byPort[key] == nil {
				byPort[key], ports[key] = map[string]member{}, p
			}
			for _, a := range s.Addresses {
				byPort[key][of(a)] = member{a, true}
			}
			for _, a := range s.NotReadyAddresses {
				if _, ok := byPort[key][of(a)]; !ok {
					byPort[key][of(a)] = member{a, false}
				}
			}
		}
	}
	var out []corev1.EndpointSubset
	together := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(byPort)) {
		members := byPort[key]
		if len(members) == 0 {
			continue
		}
		names := slices.SortedFunc(maps.Keys(members), func(a, b string) int {
			return cmp.Or(compareIP(members[a].address.IP, members[b].address.IP), strings.Compare(a, b))
		})
		var s corev1.EndpointSubset
		text := ""
		for _, name := range names {
			m := members[name]
			text += fmt.Sprint(name, m.ready, "\n")
			if m.ready {
				s.Addresses = append(s.Addresses, m.address)
			} else {
				s.NotReadyAddresses = append(s.NotReadyAddresses, m.address)
			}
		}
		if ports[key] == nil {
			text += "no port"
		}
		i, ok := together[text]
		if !ok {
			i = len(out)
			together[text], out = i, append(out, s)
		}
		if p := ports[key]; p != nil {
			out[i].Ports = append(out[i].Ports, *p)
		}
	}
	return out
}

// compareIP orders addresses by value, and after them what is none.
func compareIP(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	switch {
	case errX == nil && errY == nil:
		return x.Compare(y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// newSlice returns the slice of a group. It has the labels and annotations of the Endpoints, and ends with them.
func newSlice(e *corev1.Endpoints, g group) *discoveryv1.EndpointSlice {
	labels, annotations := maps.Clone(e.Labels), maps.Clone(e.Annotations)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName] = e.Name
	labels[discoveryv1.LabelManagedBy] = Manager
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: e.Name + "-", Namespace: e.Namespace, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: g.family, Ports: g.ports, Endpoints: g.endpoints,
	}
}

// same reports whether an existing slice is as wanted, in whatever order its endpoints are.
func same(want, have *discoveryv1.EndpointSlice) bool {
	if !equality.Semantic.DeepEqual(want.Labels, have.Labels) || !equality.Semantic.DeepEqual(want.Annotations, have.Annotations) ||
		!equality.Semantic.DeepEqual(want.OwnerReferences, have.OwnerReferences) || len(want.Endpoints) != len(have.Endpoints) {
		return false
	}
	set := sliceutil.EndpointSet{}
	for i := range want.Endpoints {
		set.Insert(&want.Endpoints[i])
	}
	for i := range have.Endpoints {
		w := set.Get(&have.Endpoints[i])
		if w == nil || !sliceutil.EndpointsEqualBeyondHash(w, &have.Endpoints[i]) {
			return false
		}
	}
	return true
}
