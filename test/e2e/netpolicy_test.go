package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podium.dev/podium/internal/podutil"
)

// reaches reports whether a Pod gets an answer from an address by TCP.
func (s *space) reaches(from, ip string, port int) bool {
	s.Helper()
	out := s.kubectl("exec", from, "-c", "c0", "--", "sh", "-c", fmt.Sprintf("nc -w 1 %s %d </dev/null >/dev/null 2>&1 && echo yes || echo no", ip, port))
	return strings.TrimSpace(out) == "yes"
}

func (s *space) wantReach(from, ip string, port int, want bool, when string) {
	s.Helper()
	if got := s.reaches(from, ip, port); got != want {
		s.Errorf("%s: %s reaches %s:%d: %v", when, from, ip, port, got)
	}
}

// dials reports whether a connection can be made from the Pod with an address.
func (s *space) dials(from, to string) bool {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.node.paths.Run, "netns", "*"))
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range files {
		ns, err := netns.GetFromPath(f)
		if err != nil {
			continue
		}
		defer ns.Close()
		w, err := openWire(ns, from)
		if err != nil {
			continue
		}
		unix.Close(w.fd)
		dialled := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the thread is in the Pod's namespace and ends with the goroutine
			err := netns.Set(ns)
			if err == nil {
				var c net.Conn
				if c, err = net.DialTimeout("tcp4", to, time.Second); err == nil {
					c.Close()
				}
			}
			dialled <- err
		}()
		return <-dialled == nil
	}
	s.Fatalf("no Pod has the address %s", from)
	return false
}

func (s *space) awaitPodReady(name string) *corev1.Pod {
	s.Helper()
	return s.await(name, "ready", podutil.IsReady)
}

// server is a Pod that answers at the ports 80 and 81.
func server(name string) *corev1.Pod {
	p := shellPod(name, "while true; do nc -l -p 81 -e true; done")
	p.Labels = map[string]string{"app": name}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "web", Image: webImage, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}})
	p.Spec.Containers[1].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}
	return p
}

func (s *space) policy(name string, spec networkingv1.NetworkPolicySpec) {
	s.Helper()
	client := s.node.client.NetworkingV1().NetworkPolicies(s.ns)
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if _, err := client.Create(s.ctx, p, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

func (s *space) dropPolicy(name string) {
	s.Helper()
	if err := s.node.client.NetworkingV1().NetworkPolicies(s.ns).Delete(s.ctx, name, metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
}

func labelled(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

// Policies hold from a Pod's first packet, by every sort of selector, while the daemon is dead and after its next start.
func TestNetworkPolicies(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	client := shellPod("client", "exec sleep 3600")
	client.Labels = map[string]string{"app": "client"}
	s.create(client)
	s.create(server("web"))
	web := s.awaitPodReady("web").Status.PodIP
	clientIP := s.awaitRunning("client").Status.PodIP
	s.wantReach("client", web, 80, true, "without a policy")

	s.policy("default-deny", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}})
	s.eventually("the policy closes the Pod", func() error {
		if s.reaches("client", web, 80) {
			return fmt.Errorf("it is open")
		}
		return nil
	})
	// One that comes now is closed from its first moment, and its probes pass.
	s.create(server("late"))
	late := s.awaitPodReady("late").Status.PodIP
	s.wantReach("client", late, 80, false, "default deny")

	// A Pod that is allowed is so from its first packet.
	s.policy("by-label", networkingv1.NetworkPolicySpec{PodSelector: *labelled("web"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From:  []networkingv1.NetworkPolicyPeer{{PodSelector: labelled("client")}, {PodSelector: labelled("eager")}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("web"))}},
	}}})
	s.eventually("the policy opens the port", func() error {
		if !s.reaches("client", web, 80) {
			return fmt.Errorf("it is closed")
		}
		return nil
	})
	s.wantReach("client", web, 81, false, "a port that no rule allows")
	for _, c := range []struct {
		label string
		want  corev1.PodPhase
	}{{"eager", corev1.PodSucceeded}, {"stranger", corev1.PodFailed}} {
		p := shellPod(c.label, fmt.Sprintf("exec nc -w 1 %s 80 </dev/null", web))
		p.Labels = map[string]string{"app": c.label}
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		s.create(p)
		s.awaitPhase(c.label, c.want)
	}

	n.kill(t)
	for port, want := range map[int]bool{80: true, 81: false} {
		if got := s.dials(clientIP, fmt.Sprintf("%s:%d", web, port)); got != want {
			t.Errorf("without a daemon: port %d: %v", port, got)
		}
	}
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	s.wantReach("client", web, 80, true, "with another daemon")
	s.wantReach("client", web, 81, false, "with another daemon")
	s.wantReach("client", late, 80, false, "with another daemon")
	s.dropPolicy("by-label")

	// Namespaces, blocks, and the way out.
	s.policy("by-namespace", networkingv1.NetworkPolicySpec{PodSelector: *labelled("late"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.ns}}, PodSelector: labelled("client"),
		}},
	}}})
	s.policy("by-block", networkingv1.NetworkPolicySpec{PodSelector: *labelled("web"), Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From:  []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{late + "/32"}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(80)), EndPort: new(int32(82))}},
	}}})
	s.eventually("both are in force", func() error {
		if !s.reaches("client", late, 81) || !s.reaches("client", web, 81) || s.reaches("late", web, 80) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	s.policy("out", networkingv1.NetworkPolicySpec{
		PodSelector: *labelled("client"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		Egress: []networkingv1.NetworkPolicyEgressRule{{
			To:    []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("web"))}},
		}},
	})
	s.eventually("the way out is closed but to one port", func() error {
		if s.reaches("client", web, 81) || !s.reaches("client", web, 80) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	for _, name := range []string{"default-deny", "by-namespace", "by-block", "out"} {
		s.dropPolicy(name)
	}
	s.eventually("all is open", func() error {
		if !s.reaches("client", web, 81) || !s.reaches("late", web, 80) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}
