package servicecidr

import (
	"net/netip"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cidr := func(name, within string) networkingv1.ServiceCIDR {
		return networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{within}}}
	}
	leaving := func(c networkingv1.ServiceCIDR, since time.Duration) networkingv1.ServiceCIDR {
		c.DeletionTimestamp, c.Finalizers = &metav1.Time{Time: now.Add(-since)}, []string{Finalizer}
		return c
	}
	ready := cidr("ready", "10.1.0.0/24")
	ready.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready"}}
	used := []netip.Addr{netip.MustParseAddr("10.1.0.7")}
	for _, tt := range []struct {
		name      string
		c         networkingv1.ServiceCIDR
		others    []networkingv1.ServiceCIDR
		used      []netip.Addr
		finalizer bool
		ready     metav1.ConditionStatus
		again     time.Duration
	}{
		{"a new one", cidr("a", "10.1.0.0/24"), nil, used, true, metav1.ConditionTrue, 0},
		{"one that is ready", ready, nil, used, true, "", 0},
		{"being deleted, in use", leaving(cidr("a", "10.1.0.0/24"), time.Hour), nil, used, true, metav1.ConditionFalse, 0},
		{"being deleted, and the address is of another one too", leaving(cidr("a", "10.1.0.0/24"), time.Hour), []networkingv1.ServiceCIDR{cidr("b", "10.1.0.0/16")}, used, false, "", 0},
		{"the other one is being deleted too", leaving(cidr("a", "10.1.0.0/24"), time.Hour), []networkingv1.ServiceCIDR{leaving(cidr("b", "10.1.0.0/16"), 0)}, used, true, metav1.ConditionFalse, 0},
		{"another one without the address", leaving(cidr("a", "10.1.0.0/24"), time.Hour), []networkingv1.ServiceCIDR{cidr("b", "10.1.0.0/30")}, used, true, metav1.ConditionFalse, 0},
		{"not in use, just deleted", leaving(cidr("a", "10.2.0.0/24"), 4*time.Second), nil, used, true, "", 6 * time.Second},
		{"not in use, long deleted", leaving(cidr("a", "10.2.0.0/24"), 10*time.Second), nil, used, false, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := decide(&tt.c, append(tt.others, tt.c), tt.used, now)
			got := metav1.ConditionStatus("")
			if p.ready != nil {
				got = p.ready.Status
			}
			if p.finalizer != tt.finalizer || got != tt.ready || p.again != tt.again {
				t.Errorf("%+v", p)
			}
		})
	}
}
