package netpolicy

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		cidr   string
		except []string
		want   string
	}{
		{"10.0.0.0/8", nil, "10.0.0.0-10.255.255.255"},
		{"0.0.0.0/0", nil, "0.0.0.0-255.255.255.255"},
		{"0.0.0.0/0", []string{"0.0.0.0/1"}, "128.0.0.0-255.255.255.255"},
		{"0.0.0.0/0", []string{"128.0.0.0/1"}, "0.0.0.0-127.255.255.255"},
		{"10.0.0.0/24", []string{"10.0.0.7/32", "10.0.0.8/32", "10.0.0.0/30"}, "10.0.0.4-10.0.0.6 10.0.0.9-10.0.0.255"},
		{"10.0.0.0/24", []string{"10.0.0.0/25", "10.0.0.0/26", "10.0.0.128/25"}, ""},
		{"010.0.0.5/24", nil, "10.0.0.0-10.0.0.255"},
		{"fd00::/64", []string{"fd00::1/128"}, "fd00::-fd00:: fd00::2-fd00::ffff:ffff:ffff:ffff"},
		{"::/0", nil, "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		spans, err := spansOf(&networkingv1.IPBlock{CIDR: c.cidr, Except: c.except})
		check(t, err)
		var got []string
		for _, s := range spans {
			got = append(got, fmt.Sprintf("%s-%s", s.first, s.last))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s except %v: %v, want %s", c.cidr, c.except, got, c.want)
		}
	}
	if _, err := spansOf(&networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"x"}}); err == nil {
		t.Error("an exception that cannot be read allows all")
	}
}

func TestPorts(t *testing.T) {
	port := func(p intstr.IntOrString, end int32, protocol corev1.Protocol) (out networkingv1.NetworkPolicyPort) {
		out.Port, out.Protocol = &p, &protocol
		if end > 0 {
			out.EndPort = &end
		}
		return out
	}
	var r rule
	for _, p := range []networkingv1.NetworkPolicyPort{
		port(intstr.FromInt32(80), 0, "TCP"), port(intstr.FromInt32(81), 90, "TCP"), port(intstr.FromInt32(85), 0, "TCP"),
		port(intstr.FromInt32(65535), 0, "UDP"), port(intstr.FromString("web"), 0, "TCP"), port(intstr.FromString("web"), 0, "TCP"),
		{Protocol: new(corev1.ProtocolSCTP)}, port(intstr.FromInt32(7), 0, "ICMP"), {Port: new(intstr.FromInt32(443))},
	} {
		r.addPort(p)
	}
	if got, want := fmt.Sprint(mergePorts(r.ports), r.named), "[{6 80 90} {6 443 443} {17 65535 65535} {132 0 65535}] [6-web]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTypes(t *testing.T) {
	const in, out = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	for _, c := range []struct {
		types    []networkingv1.PolicyType
		egress   int
		in, out_ bool
	}{
		{nil, 0, true, false}, {nil, 1, true, true}, {[]networkingv1.PolicyType{out}, 0, false, true},
		{[]networkingv1.PolicyType{in}, 1, true, false}, {[]networkingv1.PolicyType{in, out}, 0, true, true},
	} {
		np := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PolicyTypes: c.types, Egress: make([]networkingv1.NetworkPolicyEgressRule, c.egress)}}
		p, err := compile(np)
		check(t, err)
		if (p.sides[ingress] != nil) != c.in || (p.sides[egress] != nil) != c.out_ {
			t.Errorf("%v with %d rules of egress: %v", c.types, c.egress, p.sides)
		}
	}
}

// What the API server would not store any more isolates and allows nothing.
func TestUnreadable(t *testing.T) {
	bad := metav1.LabelSelector{MatchLabels: map[string]string{"a": "not a value!"}}
	np := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{PodSelector: &bad}, {}, {IPBlock: &networkingv1.IPBlock{CIDR: "x"}}},
	}}}}
	p, err := compile(np)
	if err == nil || p == nil {
		t.Fatal(p, err)
	}
	if r := p.sides[ingress].rules[0]; r.anyPeer || len(r.peers)+len(r.blocks) > 0 {
		t.Errorf("it allows %+v", r)
	}
	np.Spec.PodSelector = bad
	if p, err := compile(np); p != nil || err == nil {
		t.Error(p, err)
	}
}
