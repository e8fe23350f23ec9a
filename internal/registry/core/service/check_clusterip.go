package service

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

var (
	ips      = spec.Child("clusterIPs")
	families = spec.Child("ipFamilies")
	policy   = spec.Child("ipFamilyPolicy")
)

var (
	knownFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	knownPolicies = []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}
)

// checkClusterIPs validates the cluster IPs and the IP families, which depend on each other. The form of values
// that old already had is accepted.
func checkClusterIPs(s, old *corev1.Service) (faults field.ErrorList) {
	if !needsClusterIP(s) {
		return nil
	}
	list := s.Spec.ClusterIPs
	switch first := s.Spec.ClusterIP; {
	case first != "" && len(list) == 0:
		faults = append(faults, field.Required(ips, ""))
	case first != "" && list[0] != first:
		faults = append(faults, field.Invalid(ips, list, "first value must match `clusterIP`"))
	case first == "" && len(list) != 0:
		faults = append(faults, field.Invalid(ips, list, "must be empty when `clusterIP` is not specified"))
	}
	faults = append(faults, checkFamilies(s.Spec.IPFamilies)...)
	if p := s.Spec.IPFamilyPolicy; p != nil && !slices.Contains(knownPolicies, *p) {
		faults = append(faults, field.NotSupported(policy, p, knownPolicies))
	}
	wrong := checkForm(list, old)
	faults = append(faults, wrong...)
	if len(list) > 2 {
		faults = append(faults, field.Invalid(ips, list, "may only hold up to 2 values"))
	}
	if len(wrong) > 0 {
		return faults
	}
	if len(list) > 1 {
		both, err := netutils.IsDualStackIPStrings(list)
		if err != nil {
			faults = append(faults, field.InternalError(ips, fmt.Errorf("failed to check for dual stack with error:%w", err)))
		}
		if !both {
			faults = append(faults, field.Invalid(ips, list, "may specify no more than one IP for each IP family"))
		}
	}
	if headless(s) {
		return faults
	}
	return append(faults, checkIPsOfFamilies(list, s.Spec.IPFamilies)...)
}

func checkFamilies(list []corev1.IPFamily) (faults field.ErrorList) {
	seen := sets.New[corev1.IPFamily]()
	for i, family := range list {
		faults = append(faults, oneOf(family, knownFamilies, families.Index(i))...)
		if seen.Has(family) {
			faults = append(faults, field.Duplicate(families.Index(i), family))
		}
		seen.Insert(family)
	}
	return faults
}

// checkForm requires addresses, or "None" alone.
func checkForm(list []string, old *corev1.Service) (faults field.ErrorList) {
	var before []string
	if old != nil {
		before = old.Spec.ClusterIPs
	}
	for i, ip := range list {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(list) > 1 {
				faults = append(faults, field.Invalid(ips, list, "'None' must be the first and only value"))
			}
			continue
		}
		faults = append(faults, utilvalidation.IsValidIPForLegacyField(ips.Index(i), ip, true, before)...)
	}
	return faults
}

func checkIPsOfFamilies(list []string, of []corev1.IPFamily) (faults field.ErrorList) {
	for i := range min(len(list), len(of)) {
		if six := netutils.IsIPv6String(list[i]); six && of[i] == corev1.IPv4Protocol || !six && of[i] == corev1.IPv6Protocol {
			faults = append(faults, field.Invalid(ips.Index(i), list[i], fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", of[i], i)))
		}
	}
	return faults
}
