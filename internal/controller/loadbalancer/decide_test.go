package loadbalancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func at(second int) metav1.Time { return metav1.Unix(1_700_000_000+int64(second), 0) }

func balancer(name string, second int, ports ...int32) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "s", CreationTimestamp: at(second)},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "x"}},
	}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: p, Protocol: corev1.ProtocolTCP})
	}
	return s
}

func with(s *corev1.Service, f func(*corev1.Service)) *corev1.Service { f(s); return s }

func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func node(name, address string, ready bool) *corev1.Node {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}, {Type: corev1.NodeHostName, Address: name}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}},
	}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	return n
}

func pod(name, on string, second int, hostPort int32) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "s", Labels: map[string]string{"app": "x"}, CreationTimestamp: at(second)},
		Spec:       corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: hostPort, Protocol: corev1.ProtocolTCP}}}}},
		Status:     corev1.PodStatus{PodIP: "10.1.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func text(all []verdict) string {
	var out []string
	for _, v := range all {
		line := v.service.Name + ":"
		for _, in := range v.ingress {
			line += " " + in.IP
		}
		for _, c := range v.conflicts {
			line += " (" + c + ")"
		}
		out = append(out, line)
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	two := []*corev1.Node{node("b", "1.0.0.2", true), node("a", "1.0.0.1", true)}
	external := node("a", "1.0.0.1", true)
	external.Status.Addresses = append(external.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "9.9.9.9"}, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::1"})
	excluded := node("c", "1.0.0.3", true)
	excluded.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	api := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(6443)}}}}
	for _, tt := range []struct {
		name string
		world
		want string
	}{
		{"none", world{nodes: two}, ""},
		{"all nodes, by name", world{services: []*corev1.Service{balancer("lb", 1, 80)}, nodes: two}, "lb: 1.0.0.1 1.0.0.2"},
		{"no node", world{services: []*corev1.Service{balancer("lb", 1, 80)}}, "lb:"},
		{"of another class", world{services: []*corev1.Service{with(balancer("lb", 1, 80), func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("x/y") })}, nodes: two}, ""},
		{"an external address", world{services: []*corev1.Service{balancer("lb", 1, 80)}, nodes: []*corev1.Node{external}}, "lb: 9.9.9.9"},
		{"the other family", world{services: []*corev1.Service{with(balancer("lb", 1, 80), func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} })}, nodes: []*corev1.Node{external}}, "lb: fd00::1"},
		{"an excluded node", world{services: []*corev1.Service{balancer("lb", 1, 80)}, nodes: []*corev1.Node{excluded, two[1]}}, "lb: 1.0.0.1"},
		{"a node that is not ready", world{services: []*corev1.Service{balancer("lb", 1, 80)}, nodes: []*corev1.Node{node("b", "1.0.0.2", false), two[1]}}, "lb: 1.0.0.1"},
		{"no node is ready", world{services: []*corev1.Service{balancer("lb", 1, 80)}, nodes: []*corev1.Node{node("b", "1.0.0.2", false)}}, "lb: 1.0.0.2"},
		{"the older one has the port", world{services: []*corev1.Service{balancer("new", 2, 80, 81), balancer("old", 1, 80)}, nodes: two[1:]},
			"old: 1.0.0.1, new: (port 80/TCP of node a is taken by service s/old)"},
		{"of the same age, by name", world{services: []*corev1.Service{balancer("b", 1, 80), balancer("a", 1, 80)}, nodes: two[1:]},
			"a: 1.0.0.1, b: (port 80/TCP of node a is taken by service s/a)"},
		{"one that has none takes none", world{services: []*corev1.Service{balancer("a", 1, 80), balancer("b", 2, 80, 90), balancer("c", 3, 90)}, nodes: two[1:]},
			"a: 1.0.0.1, b: (port 80/TCP of node a is taken by service s/a), c: 1.0.0.1"},
		{"another protocol", world{services: []*corev1.Service{balancer("a", 1, 80), with(balancer("b", 2, 80), func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })}, nodes: two[1:]},
			"a: 1.0.0.1, b: 1.0.0.1"},
		{"the node's own port", world{services: []*corev1.Service{balancer("lb", 1, 10250)}, nodes: two[1:]}, "lb: (port 10250/TCP of node a is taken by the node itself)"},
		{"the API server's port", world{services: []*corev1.Service{api, balancer("lb", 1, 6443)}, nodes: two[1:]}, "lb: (port 6443/TCP of node a is taken by the API server)"},
		{"a Pod with the port on one node", world{services: []*corev1.Service{balancer("lb", 2, 80)}, nodes: two, pods: []*corev1.Pod{pod("p", "a", 1, 80)}}, "lb: 1.0.0.2 (port 80/TCP of node a is taken by pod s/p)"},
		{"a younger Pod does not take it away", world{services: []*corev1.Service{balancer("lb", 2, 80)}, nodes: two[1:], pods: []*corev1.Pod{pod("p", "a", 3, 80)}}, "lb: 1.0.0.1"},
		{"a node port", world{services: []*corev1.Service{with(balancer("np", 1, 80), func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = 30080 }), balancer("lb", 2, 30080)}, nodes: two[1:]},
			"lb: (port 30080/TCP of node a is taken by service s/np as its node port)"},
		{"only nodes with a Pod", world{services: []*corev1.Service{with(balancer("lb", 1, 80), local)}, nodes: two, pods: []*corev1.Pod{pod("p", "b", 1, 0)}}, "lb: 1.0.0.2"},
		{"only nodes with a Pod, and there is none", world{services: []*corev1.Service{with(balancer("lb", 1, 80), local)}, nodes: two}, "lb:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(decide(tt.world)); strings.ReplaceAll(got, ":  (", ": (") != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestRandomHistory: no port of a node has two Services, whoever has one keeps it while younger ones come and go, and the order in
// which the objects are listed does not matter.
func TestRandomHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 1))
	nodes := []*corev1.Node{node("a", "1.0.0.1", true), node("b", "1.0.0.2", true)}
	var services []*corev1.Service
	before := map[string]string{}
	for step := range 400 {
		removed := len(services) > 0 && random.IntN(3) == 0
		if removed {
			i := random.IntN(len(services))
			services = slices.Delete(services, i, i+1)
		} else {
			services = append(services, balancer(fmt.Sprintf("s%d", step), step, int32(80+random.IntN(6)), int32(90+random.IntN(6))))
		}
		all := decide(world{services: services, nodes: nodes})
		mixed := slices.Clone(services)
		random.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		if a, b := text(all), text(decide(world{services: mixed, nodes: nodes})); a != b {
			t.Fatalf("step %d: the order matters:\n%s\n%s", step, a, b)
		}
		owner, now := map[string]string{}, map[string]string{}
		for _, v := range all {
			now[v.service.Name] = text([]verdict{{service: v.service, ingress: v.ingress}})
			for _, in := range v.ingress {
				for _, p := range v.service.Spec.Ports {
					key := fmt.Sprint(in.IP, p.Port)
					if has, ok := owner[key]; ok {
						t.Fatalf("step %d: %s has both %s and %s", step, key, has, v.service.Name)
					}
					owner[key] = v.service.Name
				}
			}
		}
		for name, had := range before {
			if has, ok := now[name]; !removed && ok && has != had {
				t.Fatalf("step %d: a younger one changed %q to %q", step, had, has)
			}
		}
		before = now
	}
}
