package service

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestUsable(t *testing.T) {
	cidr := func(name string, ranges ...string) networkingv1.ServiceCIDR {
		return networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: ranges}}
	}
	unready := func(c networkingv1.ServiceCIDR) networkingv1.ServiceCIDR {
		c.Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse}}
		return c
	}
	leaving := func(c networkingv1.ServiceCIDR) networkingv1.ServiceCIDR {
		c.DeletionTimestamp = new(metav1.Now())
		return c
	}
	for _, tt := range []struct {
		name string
		all  []networkingv1.ServiceCIDR
		want string
	}{
		{"none yet", nil, "[10.96.0.0/16]"},
		{"the configured one", []networkingv1.ServiceCIDR{cidr("kubernetes", "10.96.0.0/16")}, "[10.96.0.0/16]"},
		{"one more, and the configured one first", []networkingv1.ServiceCIDR{cidr("a", "10.97.0.0/24"), cidr("kubernetes", "10.96.0.0/16")}, "[10.96.0.0/16 10.97.0.0/24]"},
		{"one more before the configured one is there", []networkingv1.ServiceCIDR{cidr("a", "10.97.0.0/24")}, "[10.96.0.0/16 10.97.0.0/24]"},
		{"the configured one is being deleted", []networkingv1.ServiceCIDR{leaving(cidr("kubernetes", "10.96.0.0/16")), cidr("a", "10.97.0.0/24")}, "[10.97.0.0/24]"},
		{"not ready", []networkingv1.ServiceCIDR{cidr("kubernetes", "10.96.0.0/16"), unready(cidr("a", "10.97.0.0/24"))}, "[10.96.0.0/16]"},
		{"the other family and one twice", []networkingv1.ServiceCIDR{cidr("kubernetes", "10.96.0.0/16", "fd00::/112"), cidr("a", "10.96.0.0/16")}, "[10.96.0.0/16]"},
		{"the range of an earlier configuration stays", []networkingv1.ServiceCIDR{cidr("kubernetes", "10.90.0.0/16")}, "[10.90.0.0/16]"},
	} {
		if got := fmt.Sprint(usable(tt.all, pool{netip.MustParsePrefix("10.96.0.0/16")})); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestGives(t *testing.T) {
	for _, tt := range []struct {
		within, ip string
		want       bool
	}{
		{"10.0.0.0/28", "10.0.0.0", false}, {"10.0.0.0/28", "10.0.0.1", true}, {"10.0.0.0/28", "10.0.0.14", true},
		{"10.0.0.0/28", "10.0.0.15", false}, {"10.0.0.0/28", "10.0.0.16", false}, {"10.0.0.0/8", "10.255.255.254", true},
		{"10.0.0.0/32", "10.0.0.0", false}, {"10.0.0.0/31", "10.0.0.1", false}, {"0.0.0.0/0", "9.9.9.9", true}, {"fd00::/64", "fd00::1", true},
	} {
		if got := (pool{netip.MustParsePrefix(tt.within)}).gives(netip.MustParseAddr(tt.ip)); got != tt.want {
			t.Errorf("%s gives %s: %v", tt.within, tt.ip, got)
		}
	}
}
