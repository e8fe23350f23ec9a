package netpolicy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/nft"
	"podium.dev/podium/internal/paths"
)

// newNS makes a network namespace bound to a file, gone with the test.
func newNS(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	check(t, os.WriteFile(path, nil, 0o600))
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		errs <- err
	}()
	check(t, <-errs)
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

func inNS(t testing.TB, path string, f func() error) error {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	return <-errs
}

// village is a node with Pods, an Enforcer, and an API server of objects alone.
type village struct {
	*testing.T
	cfg    network.Config
	n      *network.Network
	client *fake.Clientset
	e      *Enforcer
	end    func()
	ns     map[string]string
	pods   map[string]*corev1.Pod
}

func newVillage(t *testing.T) *village {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cfg := network.Config{Paths: paths.For(filepath.Join(t.TempDir(), "root")), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:10:244:7::/64")}}
	n, err := network.New(cfg)
	check(t, err)
	v := &village{T: t, cfg: cfg, n: n, client: fake.NewClientset(), ns: map[string]string{}, pods: map[string]*corev1.Pod{}}
	for _, name := range []string{"shop", "other"} {
		_, err := v.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": name}}}, metav1.CreateOptions{})
		check(t, err)
	}
	v.start()
	t.Cleanup(func() {
		v.end()
		check(t, Remove(cfg.Paths.ID))
		check(t, n.Remove(context.Background()))
	})
	return v
}

// start starts an Enforcer, as a daemon does.
func (v *village) start() {
	v.e = New(Config{ID: v.cfg.Paths.ID, NodeName: "node", Client: v.client, Network: v.n, IPv6: true, Clock: clock.RealClock{}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- v.e.Run(ctx) }()
	v.end = func() { cancel(); check(v.T, <-done) }
}

// pod starts a Pod that listens at the ports 80 and 81.
func (v *village) pod(namespace, name string) {
	v.Helper()
	v.prepare(namespace, name)
	check(v.T, v.e.Ready(v.Context(), v.pods[name], name))
}

func (v *village) prepare(namespace, name string) {
	v.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80, Protocol: "TCP"}}}}},
	}
	p, err := v.client.CoreV1().Pods(namespace).Create(v.Context(), p, metav1.CreateOptions{})
	check(v.T, err)
	ns := newNS(v.T)
	_, err = v.n.Setup(v.Context(), network.Request{ID: name, Namespace: namespace, Name: name, UID: string(p.UID), NetNSPath: ns})
	check(v.T, err)
	v.ns[name], v.pods[name] = ns, p
	for i, port := range []string{":80", ":81", ":80", ":81"} {
		check(v.T, inNS(v.T, ns, func() error {
			l, err := net.Listen([]string{"tcp4", "tcp4", "tcp6", "tcp6"}[i], port)
			if err != nil {
				return err
			}
			v.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
			return nil
		}))
	}
}

func (v *village) addr(name string, six bool) string {
	for _, s := range v.n.Sandboxes() {
		if s.ID == name && six {
			return s.IPs[1].String()
		} else if s.ID == name {
			return s.IPs[0].String()
		}
	}
	v.Fatalf("%s has no address", name)
	return ""
}

// soon is a time in which a connection on one machine is made many times over.
const soon = 400 * time.Millisecond

// reaches reports whether one Pod, or the node, can connect to another.
func (v *village) reaches(from, to string, port int, six bool, within time.Duration) bool {
	v.Helper()
	ns := v.ns[from]
	if from == "" {
		ns = "/proc/self/ns/net"
	}
	return inNS(v.T, ns, func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(v.addr(to, six), fmt.Sprint(port)), within)
		if err == nil {
			c.Close()
		}
		return err
	}) == nil
}

func (v *village) want(when, from, to string, port int, want bool) {
	v.Helper()
	for _, six := range []bool{false, true} {
		got := v.reaches(from, to, port, six, soon)
		for end := time.Now().Add(10 * time.Second); got != want && time.Now().Before(end); {
			got = v.reaches(from, to, port, six, soon)
		}
		if got != want {
			v.Errorf("%s: %q reaches %q at %d (IPv6: %v): %v", when, from, to, port, six, got)
		}
	}
}

// wantNow is want without a second try.
func (v *village) wantNow(when, from, to string, port int, want bool) {
	v.Helper()
	within := soon
	if want {
		// A Pod's IPv6 address is heard of by its neighbours only when a kernel worker has run.
		within = 5 * time.Second
	}
	for _, six := range []bool{false, true} {
		if got := v.reaches(from, to, port, six, within); got != want {
			v.Errorf("%s: %q reaches %q at %d (IPv6: %v): %v", when, from, to, port, six, got)
		}
	}
}

func (v *village) policy(name string, spec networkingv1.NetworkPolicySpec) {
	v.Helper()
	_, err := v.client.NetworkingV1().NetworkPolicies("shop").Create(v.Context(), &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: spec}, metav1.CreateOptions{})
	check(v.T, err)
}

func (v *village) drop(names ...string) {
	v.Helper()
	for _, name := range names {
		check(v.T, v.client.NetworkingV1().NetworkPolicies("shop").Delete(v.Context(), name, metav1.DeleteOptions{}))
	}
}

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func ports(all ...intstr.IntOrString) (out []networkingv1.NetworkPolicyPort) {
	for i := range all {
		out = append(out, networkingv1.NetworkPolicyPort{Port: &all[i]})
	}
	return out
}

func tableThere(t *testing.T, id string) bool {
	t.Helper()
	s := newState(nil)
	there, err := nft.Exist(s.tables(id, 1)...)
	check(t, err)
	return there
}

func TestPolicies(t *testing.T) {
	v := newVillage(t)
	id := v.cfg.Paths.ID
	v.pod("shop", "web")
	v.pod("shop", "client")
	v.pod("other", "stranger")
	v.wantNow("without a policy", "client", "web", 80, true)
	if tableThere(t, id) {
		t.Error("there is a table without a policy")
	}

	v.policy("deny", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}})
	v.want("default deny", "client", "web", 80, false)
	v.wantNow("the node", "", "web", 80, true)
	v.wantNow("of another namespace", "client", "stranger", 80, true)
	v.pod("shop", "late")
	v.wantNow("a new Pod", "stranger", "late", 80, false)
	v.wantNow("out of an isolated Pod", "late", "stranger", 80, true)

	v.policy("labels", networkingv1.NetworkPolicySpec{PodSelector: *app("web"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{PodSelector: app("client")}, {PodSelector: app("eager")}}, Ports: ports(intstr.FromString("web")),
	}}})
	v.want("by label", "client", "web", 80, true)
	v.wantNow("another port", "client", "web", 81, false)
	v.wantNow("another Pod", "late", "web", 80, false)
	v.pod("shop", "eager")
	v.wantNow("a new client", "eager", "web", 80, true)

	v.end()
	v.wantNow("without a daemon", "client", "web", 80, true)
	v.wantNow("without a daemon", "late", "web", 80, false)
	v.start()
	v.wantNow("with another daemon", "client", "web", 80, true)
	v.wantNow("with another daemon", "late", "web", 80, false)
	v.pod("shop", "later")
	v.wantNow("a new Pod", "later", "web", 80, false)

	check(t, Remove(id))
	v.want("after a flush", "late", "web", 80, false)
	v.drop("labels")
	v.want("without what allowed it", "client", "web", 80, false)

	// A Pod that gets another label.
	stranger := v.pods["stranger"].DeepCopy()
	v.policy("namespaces", networkingv1.NetworkPolicySpec{PodSelector: *app("web"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "other"}}, PodSelector: app("friend")}},
	}}})
	v.want("by namespace and label", "stranger", "web", 80, false)
	stranger.Labels["app"] = "friend"
	_, err := v.client.CoreV1().Pods("other").Update(t.Context(), stranger, metav1.UpdateOptions{})
	check(t, err)
	v.want("with the label", "stranger", "web", 80, true)
	ns, err := v.client.CoreV1().Namespaces().Get(t.Context(), "other", metav1.GetOptions{})
	check(t, err)
	ns.Labels = map[string]string{"team": "another"}
	_, err = v.client.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{})
	check(t, err)
	v.want("without the namespace's", "stranger", "web", 80, false)

	v.policy("blocks", networkingv1.NetworkPolicySpec{PodSelector: *app("web"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{
			{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{v.addr("late", false) + "/32", "10.0.0.0/28"}}},
			{IPBlock: &networkingv1.IPBlock{CIDR: "::/0", Except: []string{v.addr("late", true) + "/128"}}},
		},
		Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(81)), EndPort: new(int32(90))}},
	}}})
	v.want("by block", "client", "web", 81, true)
	v.wantNow("the exception", "late", "web", 81, false)
	v.wantNow("a port out of the range", "client", "web", 80, false)
	v.drop("deny", "namespaces", "blocks")

	v.policy("out", networkingv1.NetworkPolicySpec{PodSelector: *app("client"), PolicyTypes: []networkingv1.PolicyType{"Egress"}, Egress: []networkingv1.NetworkPolicyEgressRule{{
		To: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}, Ports: ports(intstr.FromString("web"), intstr.FromInt32(443), intstr.FromInt32(444)),
	}}})
	v.want("the way out", "client", "web", 81, false)
	v.wantNow("the way out by the peer's port", "client", "web", 80, true)
	v.wantNow("the way out to another namespace", "client", "stranger", 80, false)
	v.wantNow("the way in", "stranger", "client", 80, true)
	v.drop("out")
	v.want("all policies are gone", "client", "web", 81, true)
	for end := time.Now().Add(10 * time.Second); tableThere(t, id); {
		if time.Now().After(end) {
			t.Fatal("the table stays without a policy")
		}
	}
}
