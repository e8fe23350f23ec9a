package service

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// family is the only IP family of cluster IPs.
const family = corev1.IPv4Protocol

// settleFamilies sets the families and the family policy that the client left out, and rejects what a
// single-stack cluster does not have. old is nil for a create.
func settleFamilies(s, old *corev1.Service) error {
	if !needsClusterIP(s) {
		return nil
	}
	settlePolicy(s, old)
	if faults := checkClusterIPs(s, old); len(faults) > 0 {
		return invalid(s, faults...)
	}
	var faults field.ErrorList
	if old != nil {
		faults = append(faults, releaseSecond(s, old)...)
	}
	if faults = append(faults, inferFamilies(s)...); len(faults) > 0 {
		return invalid(s, faults...)
	}
	if headless(s) && len(s.Spec.Selector) == 0 {
		// The families of endpoints that the client creates itself are unknown.
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = []corev1.IPFamily{family}
		}
		if len(s.Spec.IPFamilies) < 2 && familyPolicy(s) != corev1.IPFamilyPolicySingleStack {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, other(s.Spec.IPFamilies[0]))
		}
		return nil
	}
	if familyPolicy(s) == corev1.IPFamilyPolicyRequireDualStack {
		faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if f != family {
			faults = append(faults, field.Invalid(families.Index(i), f, "not configured on this cluster"))
		}
	}
	if len(faults) > 0 {
		return invalid(s, faults...)
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{family}
	}
	return nil
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// settlePolicy sets a missing policy: the old one, dual stack for a headless service without a selector, or
// else single stack.
func settlePolicy(s, old *corev1.Service) {
	switch {
	case s.Spec.IPFamilyPolicy != nil:
	case old != nil && old.Spec.IPFamilyPolicy != nil:
		s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	case s.Spec.ClusterIP == corev1.ClusterIPNone && len(s.Spec.Selector) == 0:
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	default:
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	}
}

// releaseSecond treats a change of the policy to single stack as the request to release the second address, and
// requires that change if the second address is left out without it.
func releaseSecond(s, old *corev1.Service) (faults field.ErrorList) {
	if familyPolicy(s) == corev1.IPFamilyPolicySingleStack {
		if slices.Equal(old.Spec.ClusterIPs, s.Spec.ClusterIPs) && len(s.Spec.ClusterIPs) > 1 {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
		}
		if slices.Equal(old.Spec.IPFamilies, s.Spec.IPFamilies) && len(s.Spec.IPFamilies) > 1 {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
		}
		return nil
	}
	if n := len(s.Spec.ClusterIPs); n > 0 && n < len(old.Spec.ClusterIPs) {
		faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if n := len(s.Spec.IPFamilies); n > 0 && n < len(old.Spec.IPFamilies) {
		faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return faults
}

// inferFamilies adds the families of the requested addresses.
func inferFamilies(s *corev1.Service) (faults field.ErrorList) {
	if familyPolicy(s) == corev1.IPFamilyPolicySingleStack {
		const want = "must be 'RequireDualStack' or 'PreferDualStack' when multiple "
		if len(s.Spec.ClusterIPs) == 2 {
			faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, want+"cluster IPs are specified"))
		}
		if len(s.Spec.IPFamilies) == 2 {
			faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, want+"IP families are specified"))
		}
	}
	for i, ip := range s.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			break
		}
		if i < len(s.Spec.IPFamilies) {
			continue
		}
		of := corev1.IPv4Protocol
		if netutils.IsIPv6String(ip) {
			of = corev1.IPv6Protocol
		}
		if of != family {
			faults = append(faults, field.Invalid(ips.Index(i), s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", of)))
			continue
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, of)
	}
	return faults
}
