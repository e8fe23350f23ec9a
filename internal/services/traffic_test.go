package services

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/nft"
)

// cluster is a node with two Pods, "a" and "b", and a machine outside.
type cluster struct {
	*Proxy
	a, b, out machine
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	needRoot(t)
	node(t)
	c := &cluster{
		a:   join(t, "a", "10.244.0.2", "fd00:10:244::2"),
		b:   join(t, "b", "10.244.0.3", "fd00:10:244::3"),
		out: join(t, "out", "198.51.100.1", "2001:db8:1::1"),
	}
	for name, m := range map[string]machine{"a": c.a, "b": c.b} {
		serve(t, m.ns, name, "tcp", ":8080")
		serve(t, m.ns, name, "udp", ":8080")
	}
	c.Proxy = c.open(t)
	t.Cleanup(func() { check(t, Remove("test")) })
	return c
}

// open makes a Proxy that gets its objects from the test.
func (c *cluster) open(t testing.TB) *Proxy {
	p := New(Config{
		ID: "test", Node: "here", Pods: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		Own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6443")}, Clock: clock.RealClock{},
	})
	p.slicesStarted, p.zoneStarted = true, true
	p.setServices(nil)
	p.setSlices(nil)
	t.Cleanup(p.health.close)
	return p
}

func (c *cluster) write(t testing.TB) {
	t.Helper()
	check(t, c.sync(t.Context()))
}

func webService(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", CreationTimestamp: metav1.NewTime(time.Unix(1, 0))},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9", "fd00:10:96::9"},
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053},
			},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

// sliceOfMachines has machines as ready endpoints on a node.
func sliceOfMachines(v4 bool, onNode string, all ...machine) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-6", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv6,
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](8080)},
			{Name: ptr.To("dns"), Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To[int32](8080)},
		},
	}
	at := 1
	if v4 {
		s.Name, s.AddressType, at = "web-4", discoveryv1.AddressTypeIPv4, 0
	}
	for _, m := range all {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{m.ip[at].String()}, NodeName: &onNode})
	}
	return s
}

func (c *cluster) set(t testing.TB, s *corev1.Service, onNode string, endpoints ...machine) {
	t.Helper()
	c.putService(s)
	for _, v4 := range []bool{true, false} {
		c.putSlice(sliceOfMachines(v4, onNode, endpoints...), true)
	}
	c.write(t)
}

func TestTraffic(t *testing.T) {
	c := newCluster(t)
	c.set(t, webService(nil), "here", c.b)
	const node4, node6 = "192.0.2.2", "[2001:db8::2]"
	for _, f := range []struct{ ip, node, pod, out, gw string }{
		{"10.96.0.9", node4, "10.244.0.2", "198.51.100.1", "169.254.1.1"}, {"[fd00:10:96::9]", node6, "fd00:10:244::2", "2001:db8:1::1", "fd00:ffff::1"},
	} {
		wantAnswer(t, c.a.ns, "tcp", f.ip+":80", "b from "+f.pod)
		wantAnswer(t, c.a.ns, "udp", f.ip+":53", "b from "+f.pod)
		wantAnswer(t, c.b.ns, "tcp", f.ip+":80", "b from "+f.gw) // itself
		wantAnswer(t, c.b.ns, "udp", f.ip+":53", "b from "+f.gw)
		wantAnswer(t, here, "tcp", f.ip+":80", "b from "+f.gw)
		wantAnswer(t, here, "tcp", f.node+":30080", "b from "+f.gw)
		wantAnswer(t, here, "udp", f.node+":30053", "b from "+f.gw)
		wantAnswer(t, c.out.ns, "tcp", f.ip+":80", "b from "+f.gw)
		wantAnswer(t, c.out.ns, "tcp", f.node+":30080", "b from "+f.gw)
		wantAnswer(t, c.a.ns, "tcp", f.node+":30080", "b from "+f.gw)
		// A port that the Service has not, and one of another protocol.
		wantAnswer(t, c.a.ns, "tcp", f.ip+":81", refusal)
		wantAnswer(t, here, "tcp", f.ip+":53", refusal)
	}
	wantAnswer(t, here, "tcp", "127.0.0.1:30080", refusal) // as without the Service

	// Both endpoints are used.
	c.set(t, webService(nil), "here", c.a, c.b)
	seen := map[string]bool{}
	for range 40 {
		seen[ask(t, c.out.ns, "tcp", "10.96.0.9:80", patience)] = true
	}
	if !seen["a from 169.254.1.1"] || !seen["b from 169.254.1.1"] || len(seen) != 2 {
		t.Errorf("with two endpoints: %v", seen)
	}

	// None is refused, not silent.
	c.set(t, webService(nil), "here")
	for _, ns := range []string{c.a.ns, c.out.ns, here} {
		for _, at := range []string{"10.96.0.9:80", "[fd00:10:96::9]:80", node4 + ":30080", node6 + ":30080"} {
			wantAnswer(t, ns, "tcp", at, refusal)
		}
		wantAnswer(t, ns, "udp", "10.96.0.9:53", refusal)
		wantAnswer(t, ns, "udp", node4+":30053", refusal)
	}

	// A Service that is gone leaves nothing.
	c.dropService(nameOf(webService(nil)))
	c.write(t)
	if all := c.state.all(); len(all) != 0 || len(c.state.shapes) != 0 || len(c.have) != 0 || len(c.state.lists) != 0 {
		t.Errorf("left: %v, shapes %v", all, c.have)
	}
	wantAnswer(t, c.a.ns, "tcp", "10.96.0.9:80", silence)
}

func TestAffinity(t *testing.T) {
	c := newCluster(t)
	sticky := webService(func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](1)}}
	})
	c.set(t, sticky, "here", c.a, c.b)
	for _, at := range []string{"10.96.0.9:80", "[fd00:10:96::9]:80"} {
		first := ask(t, c.out.ns, "tcp", at, patience)
		for range 20 {
			wantAnswer(t, c.out.ns, "tcp", at, first)
		}
		// The endpoint goes: the client gets the other one and stays there when both are back.
		stays, other := c.a, "a"
		if first[0] == 'a' {
			stays, other = c.b, "b"
		}
		c.set(t, sticky, "here", stays)
		second := ask(t, c.out.ns, "tcp", at, patience)
		if second[:1] != other {
			t.Errorf("%s: %q after %q has gone", at, second, first)
		}
		c.set(t, sticky, "here", c.a, c.b)
		for range 20 {
			wantAnswer(t, c.out.ns, "tcp", at, second)
		}
	}
	// A new start keeps what is known of clients.
	first := ask(t, c.out.ns, "tcp", "10.96.0.9:80", patience)
	c.Proxy = c.open(t)
	c.set(t, sticky, "here", c.a, c.b)
	for range 20 {
		wantAnswer(t, c.out.ns, "tcp", "10.96.0.9:80", first)
	}
	// In the end it is forgotten.
	<-time.After(1500 * time.Millisecond)
	seen := map[string]bool{}
	for range 10 {
		seen[ask(t, c.out.ns, "tcp", "10.96.0.9:80", patience)] = true
		<-time.After(1100 * time.Millisecond)
		if len(seen) == 2 {
			return
		}
	}
	t.Errorf("after the time: %v", seen)
}

func TestLocal(t *testing.T) {
	c := newCluster(t)
	balanced := func(change func(*corev1.Service)) *corev1.Service {
		return webService(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.ExternalIPs = []string{"203.0.113.7"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
			if change != nil {
				change(s)
			}
		})
	}
	c.set(t, balanced(nil), "here", c.b)
	for _, at := range []string{"192.0.2.2:30080", "192.0.2.2:80", "203.0.113.7:80"} {
		wantAnswer(t, c.out.ns, "tcp", at, "b from 198.51.100.1")
		wantAnswer(t, c.a.ns, "tcp", at, "b from 10.244.0.2")
		wantAnswer(t, here, "tcp", at, "b from 169.254.1.1")
	}
	// Endpoints elsewhere only: from outside it is silent, inside the cluster they are used.
	c.set(t, balanced(nil), "elsewhere", c.b)
	for _, at := range []string{"192.0.2.2:30080", "192.0.2.2:80", "203.0.113.7:80"} {
		wantAnswer(t, c.out.ns, "tcp", at, silence)
		wantAnswer(t, c.a.ns, "tcp", at, "b from 10.244.0.2")
		wantAnswer(t, here, "tcp", at, "b from 169.254.1.1")
	}
	c.set(t, balanced(nil), "here")
	for _, at := range []string{"192.0.2.2:30080", "192.0.2.2:80", "203.0.113.7:80"} {
		wantAnswer(t, c.out.ns, "tcp", at, refusal)
	}
	// internalTrafficPolicy.
	inside := webService(func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	})
	c.set(t, inside, "elsewhere", c.b)
	wantAnswer(t, c.a.ns, "tcp", "10.96.0.9:80", silence)
	wantAnswer(t, c.out.ns, "tcp", "192.0.2.2:30080", "b from 169.254.1.1")
	c.set(t, inside, "here", c.b)
	wantAnswer(t, c.a.ns, "tcp", "10.96.0.9:80", "b from 10.244.0.2")
	// Source ranges are of the load balancer's address only.
	c.set(t, balanced(func(s *corev1.Service) {
		s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24", "198.51.100.0/28", "192.0.2.0/31"}
	}), "here", c.b)
	wantAnswer(t, c.out.ns, "tcp", "192.0.2.2:80", "b from 198.51.100.1")
	wantAnswer(t, c.a.ns, "tcp", "192.0.2.2:80", silence)
	wantAnswer(t, c.a.ns, "tcp", "192.0.2.2:30080", "b from 10.244.0.2")
	c.set(t, balanced(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"10.244.0.0/16"} }), "here", c.b)
	wantAnswer(t, c.out.ns, "tcp", "192.0.2.2:80", silence)
	wantAnswer(t, c.a.ns, "tcp", "192.0.2.2:80", "b from 10.244.0.2")
	// The node's own port comes first.
	serve(t, here, "node", "tcp", "192.0.2.2:6443")
	c.set(t, balanced(func(s *corev1.Service) { s.Spec.Ports[0].Port = 6443 }), "here", c.b)
	wantAnswer(t, c.out.ns, "tcp", "192.0.2.2:6443", "node from 198.51.100.1")
	wantAnswer(t, c.out.ns, "tcp", "203.0.113.7:6443", "b from 198.51.100.1")
	wantAnswer(t, here, "tcp", "192.0.2.2:6443", "node from 192.0.2.2")
}

// A UDP client that goes on sending from one port gets to the endpoint that there is.
func TestFlowsMove(t *testing.T) {
	c := newCluster(t)
	c.set(t, webService(nil), "here", c.b)
	for _, at := range []string{"10.96.0.9:53", "192.0.2.2:30053"} {
		c.set(t, webService(nil), "here", c.b)
		conn := dialUDP(t, c.out.ns, at)
		if got := askOn(t, conn); got != "b from 169.254.1.1" {
			t.Errorf("%s: %q", at, got)
		}
		c.set(t, webService(nil), "here", c.a, c.b)
		if got := askOn(t, conn); got != "b from 169.254.1.1" {
			t.Errorf("%s: %q with one more endpoint", at, got)
		}
		c.set(t, webService(nil), "here", c.a)
		if got := askOn(t, conn); got != "a from 169.254.1.1" {
			t.Errorf("%s: %q after the endpoint has gone", at, got)
		}
	}
	// What began before the Service was known.
	c.dropService(nameOf(webService(nil)))
	c.write(t)
	conn := dialUDP(t, c.out.ns, "10.96.0.9:53")
	if got := askOn(t, conn); got != silence {
		t.Errorf("without a Service: %q", got)
	}
	c.set(t, webService(nil), "here", c.a)
	if got := askOn(t, conn); got != "a from 169.254.1.1" {
		t.Errorf("with the Service: %q", got)
	}
}

// The table stays when the Proxy ends; another one takes it over, whatever happened meanwhile; and it is removed.
func TestTakeOver(t *testing.T) {
	c := newCluster(t)
	c.set(t, webService(nil), "here", c.b)
	c.Proxy = c.open(t)
	wantAnswer(t, c.a.ns, "tcp", "10.96.0.9:80", "b from 10.244.0.2")
	c.set(t, webService(nil), "here", c.a)
	wantAnswer(t, c.out.ns, "tcp", "10.96.0.9:80", "a from 169.254.1.1")
	// Somebody has changed the table behind its back: the next change writes it again.
	conn, err := nftables.New()
	check(t, err)
	conn.FlushSet(c.table.set(byAddress, true))
	check(t, conn.Flush())
	c.set(t, webService(nil), "here")
	wantAnswer(t, c.out.ns, "tcp", "10.96.0.9:80", refusal)
	c.set(t, webService(nil), "here", c.a)
	wantAnswer(t, c.out.ns, "tcp", "10.96.0.9:80", "a from 169.254.1.1")
	// A table of another layout is replaced.
	c.Proxy = c.open(t)
	conn.AddSet(&nftables.Set{Table: c.table.ref(), Name: "older", KeyType: nftables.TypeIPAddr}, nil)
	check(t, conn.Flush())
	c.set(t, webService(nil), "here", c.b)
	wantAnswer(t, c.out.ns, "tcp", "10.96.0.9:80", "b from 169.254.1.1")
	check(t, Remove("test"))
	if there, err := nft.Exist(nft.Table{Table: c.table.ref()}); there || err != nil {
		t.Errorf("the table is there: %v, %v", there, err)
	}
}
