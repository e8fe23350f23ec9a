package servicecidr

import (
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Finalizer keeps a ServiceCIDR that is being deleted for as long as addresses depend on it.
const Finalizer = "networking.k8s.io/service-cidr-finalizer"

// grace is how long after the request a ServiceCIDR is deleted at the earliest: an allocator that did not know of the
// request may have given an address.
const grace = 10 * time.Second

// plan is what a ServiceCIDR needs.
type plan struct {
	// finalizer is whether it is to have the finalizer.
	finalizer bool
	// ready is the condition that it is to have, or nil if it stays as it is.
	ready *metav1.Condition
	// again is the time after which to decide once more, or 0.
	again time.Duration
}

// decide returns what c needs among all ServiceCIDRs and the addresses in use.
func decide(c *networkingv1.ServiceCIDR, all []networkingv1.ServiceCIDR, used []netip.Addr, now time.Time) plan {
	if c.DeletionTimestamp == nil {
		return plan{finalizer: true, ready: changed(c, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready",
		})}
	}
	has := slices.Contains(c.Finalizers, Finalizer)
	if !has {
		return plan{}
	}
	if needed(c, all, used) {
		return plan{finalizer: true, ready: changed(c, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
			Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		})}
	}
	if left := grace - now.Sub(c.DeletionTimestamp.Time); left > 0 {
		return plan{finalizer: true, again: left}
	}
	return plan{}
}

// changed returns the condition if c does not have it yet.
func changed(c *networkingv1.ServiceCIDR, want metav1.Condition) *metav1.Condition {
	have := apimeta.FindStatusCondition(c.Status.Conditions, want.Type)
	if have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return nil
	}
	return &want
}

// needed reports whether an address in use belongs to no other ServiceCIDR.
func needed(c *networkingv1.ServiceCIDR, all []networkingv1.ServiceCIDR, used []netip.Addr) bool {
	var others []netip.Prefix
	for i := range all {
		if all[i].Name != c.Name && all[i].DeletionTimestamp == nil {
			others = append(others, ranges(&all[i])...)
		}
	}
	mine := ranges(c)
	in := func(all []netip.Prefix, ip netip.Addr) bool {
		return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return slices.ContainsFunc(used, func(ip netip.Addr) bool { return in(mine, ip) && !in(others, ip) })
}

func ranges(c *networkingv1.ServiceCIDR) (out []netip.Prefix) {
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}
