package service

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

const mayNotChange = "may not change once set"

func checkUpdate(_ context.Context, s, old *corev1.Service) field.ErrorList {
	faults := validate.MetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	if needsClusterIP(s) && needsClusterIP(old) {
		faults = append(faults, checkClusterIPChange(s, old)...)
		faults = append(faults, checkFamilyChange(s, old)...)
	}
	faults = append(faults, checkBalancerClass(s, old)...)
	if needsHealthCheck(old) && needsHealthCheck(s) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		faults = append(faults, field.Forbidden(spec.Child("healthCheckNodePort"), "field is immutable"))
	}
	return append(faults, checkService(s, old)...)
}

func checkStatusUpdate(_ context.Context, s, old *corev1.Service) field.ErrorList {
	faults := validate.MetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	return append(faults, checkIngress(s, old, field.NewPath("status", "loadBalancer", "ingress"))...)
}

// checkClusterIPChange allows a second address to be added and removed. The first must stay for the life of the
// service.
func checkClusterIPChange(s, old *corev1.Service) (faults field.ErrorList) {
	if headless(old) && headless(s) {
		return nil
	}
	now, before := s.Spec.ClusterIPs, old.Spec.ClusterIPs
	if len(now) == len(before) {
		for i := range before {
			if now[i] != before[i] {
				faults = append(faults, field.Invalid(ips.Index(i), now, mayNotChange))
			}
		}
		return faults
	}
	if len(now) == 0 {
		faults = append(faults, field.Invalid(ips.Index(0), now, "primary clusterIP can not be unset"))
	}
	if len(now) > 0 && len(before) > 0 && now[0] != before[0] {
		faults = append(faults, field.Invalid(ips.Index(0), now, mayNotChange))
	}
	if len(before) > len(now) && len(now) == 1 && familyPolicy(s) != corev1.IPFamilyPolicySingleStack {
		faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP"))
	}
	return faults
}

// checkFamilyChange applies the rules of checkClusterIPChange to IP families.
func checkFamilyChange(s, old *corev1.Service) (faults field.ErrorList) {
	if headless(old) || headless(s) {
		return nil
	}
	now, before := s.Spec.IPFamilies, old.Spec.IPFamilies
	if len(now) == len(before) {
		for i := range before {
			if now[i] != before[i] {
				faults = append(faults, field.Invalid(families.Index(0), now, mayNotChange))
			}
		}
		return faults
	}
	if len(before) > len(now) && len(s.Spec.ClusterIPs) == 0 {
		faults = append(faults, field.Invalid(families.Index(0), now, "primary ipFamily can not be unset"))
	}
	if len(now) > 0 && len(before) > 0 && now[0] != before[0] {
		faults = append(faults, field.Invalid(families.Index(0), s.Spec.ClusterIPs, mayNotChange))
	}
	if len(before) > len(now) && len(now) == 1 && familyPolicy(s) != corev1.IPFamilyPolicySingleStack {
		faults = append(faults, field.Invalid(policy, s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary ipFamily"))
	}
	return faults
}
