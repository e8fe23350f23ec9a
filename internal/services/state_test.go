package services

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestChoose(t *testing.T) {
	at := func(n byte) endpoint {
		return endpoint{addr: netip.AddrFrom4([4]byte{10, 244, 0, n}), ready: true, serving: true}
	}
	with := func(e endpoint, change func(*endpoint)) endpoint { change(&e); return e }
	local := func(e *endpoint) { e.local = true }
	leaving := func(e *endpoint) { e.ready, e.terminating = false, true }
	zone := func(names ...string) func(*endpoint) { return func(e *endpoint) { e.zoneHints = names } }
	forMe := func(e *endpoint) { e.nodeHints, e.forNode = true, true }
	forOther := func(e *endpoint) { e.nodeHints = true }
	both := &service{internalLocal: true, externalIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")}}
	for name, c := range map[string]struct {
		s              *service
		all            []endpoint
		cluster, local string
		any            bool
	}{
		"none":                            {s: both},
		"all that are ready":              {s: both, all: []endpoint{at(1), with(at(2), leaving), with(at(3), local)}, cluster: "13", local: "3", any: true},
		"leaving ones serve":              {s: both, all: []endpoint{with(at(1), leaving), with(with(at(2), leaving), local)}, cluster: "12", local: "2", any: true},
		"each policy for itself":          {s: both, all: []endpoint{at(1), with(with(at(2), leaving), local)}, cluster: "1", local: "2", any: true},
		"not ready, not leaving":          {s: both, all: []endpoint{with(at(1), func(e *endpoint) { e.ready = false })}},
		"leaving, not serving":            {s: both, all: []endpoint{with(at(1), func(e *endpoint) { leaving(e); e.serving = false })}},
		"only local":                      {s: &service{internalLocal: true}, all: []endpoint{at(1)}, any: true},
		"hints for the zone":              {s: &service{}, all: []endpoint{with(at(1), zone("a")), with(at(2), zone("b"))}, cluster: "1", any: true},
		"hints for no zone of ours":       {s: &service{}, all: []endpoint{with(at(1), zone("c")), with(at(2), zone("b"))}, cluster: "12", any: true},
		"one without a hint":              {s: &service{}, all: []endpoint{with(at(1), zone("a")), at(2)}, cluster: "12", any: true},
		"hints for the node come first":   {s: &service{}, all: []endpoint{with(with(at(1), zone("a")), forOther), with(with(at(2), zone("a")), forMe)}, cluster: "2", any: true},
		"hints for other nodes, our zone": {s: &service{}, all: []endpoint{with(with(at(1), zone("a")), forOther), with(with(at(2), zone("b")), forOther)}, cluster: "1", any: true},
		"what leaves needs no hint":       {s: &service{}, all: []endpoint{with(at(1), zone("a")), with(at(2), leaving)}, cluster: "1", any: true},
		"local needs no hint":             {s: both, all: []endpoint{with(at(1), zone("a")), with(with(at(2), zone("b")), local)}, cluster: "1", local: "2", any: true},
	} {
		t.Run(name, func(t *testing.T) {
			sl := &slice{v4: true, ports: []slicePort{{proto: 6, port: 8080}}, endpoints: c.all}
			got := choose(c.s, targets([]*slice{sl}, servicePort{proto: 6, port: 80}, true), "a")
			if text(got.cluster) != c.cluster || text(got.local) != c.local || got.any != c.any {
				t.Errorf("cluster %s, local %s, any %v", text(got.cluster), text(got.local), got.any)
			}
		})
	}
}

// text is the last digits of addresses.
func text(all []netip.AddrPort) (out string) {
	for _, a := range all {
		out += string('0' + a.Addr().As4()[3])
	}
	return out
}

// An endpoint that two slices have counts once; other ports and families do not.
func TestTargets(t *testing.T) {
	e := endpoint{addr: netip.MustParseAddr("10.244.0.9")}
	ready := e
	ready.ready = true
	tcp := slicePort{name: "http", proto: 6, port: 8080}
	all := targets([]*slice{
		{v4: true, ports: []slicePort{tcp}, endpoints: []endpoint{e}},
		{v4: true, ports: []slicePort{{name: "http", proto: 17, port: 8080}, {name: "other", proto: 6, port: 81}, tcp}, endpoints: []endpoint{ready}},
		{ports: []slicePort{tcp}, endpoints: []endpoint{{addr: netip.MustParseAddr("fd00::1")}}},
	}, servicePort{name: "http", proto: 6}, true)
	if len(all) != 1 || !all[0].ready || all[0].at.String() != "10.244.0.9:8080" {
		t.Errorf("%v", all)
	}
}

func TestShapeKey(t *testing.T) {
	for _, s := range []shape{
		{}, {kind: portFromOutside, v4: true, endpoints: maxEndpoints, masq: always, ranged: true, affinity: 86400},
		{kind: byAddress, endpoints: 1, masq: offPod},
	} {
		if got := shapeOf(s.key()); got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	}
}

func TestOutermost(t *testing.T) {
	var all []netip.Prefix
	for _, p := range []string{"10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.128/25"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	got := outermost(all)
	if len(got) != 2 || got[0].String() != "10.0.0.0/8" || got[1].String() != "192.0.2.0/24" {
		t.Errorf("%v", got)
	}
	if last := lastOf(got[0]).String(); last != "10.255.255.255" {
		t.Errorf("the last address is %s", last)
	}
}

// fixture is a state without a kernel, and a table that holds what was written.
type fixture struct {
	*state
	table map[slot]string
}

func (f *fixture) put(t *testing.T, name string, created int64, port int32, ips ...string) {
	t.Helper()
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(created, 0))},
		Spec:       corev1.ServiceSpec{ClusterIP: ips[0], ExternalIPs: ips[1:], Ports: []corev1.ServicePort{{Port: port}}},
	}
	e := f.of(nameOf(o))
	e.service = serviceOf(o)
	e.setSlice("s", &slice{v4: true, ports: []slicePort{{proto: 6, port: 80}}, endpoints: []endpoint{{addr: netip.MustParseAddr("10.244.0.9"), ready: true}}})
	f.write(t, name)
}

func (f *fixture) drop(t *testing.T, name string) {
	t.Helper()
	n := nameOf(&metav1.ObjectMeta{Namespace: "ns", Name: name})
	f.services[n].service, f.services[n].slices = nil, nil
	f.write(t, name)
}

// write applies the changes as the kernel would, and compares with the whole.
func (f *fixture) write(t *testing.T, name string) {
	t.Helper()
	c := newChanges()
	f.update(nameOf(&metav1.ObjectMeta{Namespace: "ns", Name: name}), c)
	for sl := range c.drop {
		if _, there := f.table[sl]; !there {
			t.Errorf("%s: deletes %v, which is not there", name, sl)
		}
		delete(f.table, sl)
	}
	for sl, val := range c.put {
		if _, there := f.table[sl]; there != c.had[sl] {
			t.Errorf("%s: had of %v is %v", name, sl, c.had[sl])
		}
		f.table[sl] = val
	}
	if all := f.all(); !maps.Equal(all, f.table) {
		t.Errorf("%s: the table is %v, want %v", name, f.table, all)
	}
}

// holder is whose endpoints an external address leads to.
func (f *fixture) holder(ip string, port uint16) string {
	val, ok := f.table[slot{byAddress, true, string(addressKey(netip.MustParseAddr(ip), 6, port))}]
	if !ok {
		return ""
	}
	for id, e := range f.lists {
		if val[:4] == string([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}) {
			return e.applied.name.Name
		}
	}
	return "nobody"
}

// Of Services that want the same address and port the oldest has it, and when it goes the next one.
func TestClaims(t *testing.T) {
	f := &fixture{newState(facts{}), map[slot]string{}}
	want := func(name string) {
		t.Helper()
		if got := f.holder("203.0.113.1", 80); got != name {
			t.Errorf("it is %q's, want %q's", got, name)
		}
	}
	f.put(t, "b", 2, 80, "10.96.0.2", "203.0.113.1")
	want("b")
	f.put(t, "c", 3, 80, "10.96.0.3", "203.0.113.1")
	want("b")
	f.put(t, "a", 1, 80, "10.96.0.1", "203.0.113.1")
	want("a")
	f.put(t, "a", 1, 81, "10.96.0.1", "203.0.113.1")
	want("b")
	f.put(t, "a", 1, 80, "10.96.0.1", "203.0.113.1")
	want("a")
	f.drop(t, "b")
	want("a")
	f.drop(t, "a")
	want("c")
	f.put(t, "c", 3, 80, "10.96.0.3")
	want("")
	f.drop(t, "c")
	if len(f.table)+len(f.slots)+len(f.shapes)+len(f.lists)+len(f.services) != 0 {
		t.Errorf("left: %v %v %v %v", f.table, f.slots, f.shapes, f.services)
	}
}

// What other rules of the node serve is left out; without anything else there is nothing to do.
func TestKept(t *testing.T) {
	kept := facts{kept: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:443")}}
	s := &service{clusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, ports: []servicePort{{proto: 6, port: 443}}}
	if got := elementsOf(s, nil, kept, nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
	s.ports = append(s.ports, servicePort{proto: 6, port: 80})
	if got := elementsOf(s, nil, kept, nil); !slices.ContainsFunc(got, func(e element) bool { return e.kind == refused }) || len(got) != 2 {
		t.Errorf("%v", got)
	}
}
