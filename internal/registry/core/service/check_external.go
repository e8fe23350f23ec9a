package service

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/validate"
)

const onlyBalanced = "may only be used when `type` is 'LoadBalancer'"

// checkSourceRanges validates the load balancer's source ranges, in the field or in the older annotation.
func checkSourceRanges(s, old *corev1.Service) (faults field.ErrorList) {
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		path := spec.Child("LoadBalancerSourceRanges")
		if !balanced(s) {
			faults = append(faults, field.Forbidden(path, onlyBalanced))
		}
		var before []string
		if old != nil {
			before = trimmed(old.Spec.LoadBalancerSourceRanges)
		}
		for i, cidr := range trimmed(s.Spec.LoadBalancerSourceRanges) {
			faults = append(faults, utilvalidation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, before)...)
		}
		return faults
	}
	list, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	if !ok {
		return nil
	}
	path := meta.Child("annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
	if !balanced(s) {
		faults = append(faults, field.Forbidden(path, onlyBalanced))
	}
	unchanged := old != nil && old.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] == list
	if list = strings.TrimSpace(list); unchanged || list == "" {
		return faults
	}
	for _, cidr := range trimmed(strings.Split(list, ",")) {
		faults = append(faults, utilvalidation.IsValidCIDRForLegacyField(path, cidr, true, nil)...)
	}
	return faults
}

func trimmed(list []string) []string {
	out := make([]string, len(list))
	for i, word := range list {
		out[i] = strings.TrimSpace(word)
	}
	return out
}

func checkBalancer(s *corev1.Service) field.ErrorList {
	switch give := s.Spec.AllocateLoadBalancerNodePorts; {
	case give != nil && !balanced(s):
		return field.ErrorList{field.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), onlyBalanced)}
	case give == nil && balanced(s):
		return field.ErrorList{field.Required(field.NewPath("allocateLoadBalancerNodePorts"), "")}
	}
	return nil
}

// checkBalancerClass validates the load balancer's class, which must not change while the type does not.
func checkBalancerClass(s, old *corev1.Service) (faults field.ErrorList) {
	path := spec.Child("loadBalancerClass")
	class := s.Spec.LoadBalancerClass
	if old != nil && balanced(old) && balanced(s) && !same(old.Spec.LoadBalancerClass, class) {
		faults = append(faults, field.Invalid(path, class, "may not change once set"))
	}
	switch {
	case class == nil:
	case balanced(s):
		faults = append(faults, validate.QualifiedName(*class, path)...)
	default:
		faults = append(faults, field.Forbidden(path, onlyBalanced))
	}
	return faults
}

func checkExternalTraffic(s *corev1.Service) (faults field.ErrorList) {
	policy := s.Spec.ExternalTrafficPolicy
	at := spec.Child("externalTrafficPolicy")
	if external(s) {
		faults = append(faults, choice(policy, externally, at)...)
	} else if policy != "" {
		faults = append(faults, field.Invalid(at, policy, "may only be set for externally-accessible services"))
	}
	port := s.Spec.HealthCheckNodePort
	at = spec.Child("healthCheckNodePort")
	switch {
	case !needsHealthCheck(s) && port != 0:
		faults = append(faults, field.Invalid(at, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	case needsHealthCheck(s) && port == 0:
		faults = append(faults, field.Required(at, ""))
	case needsHealthCheck(s):
		for _, fault := range utilvalidation.IsValidPortNum(int(port)) {
			faults = append(faults, field.Invalid(at, port, fault))
		}
	}
	return faults
}

func checkInternalTraffic(s *corev1.Service) field.ErrorList {
	path := spec.Child("internalTrafficPolicy")
	if policy := s.Spec.InternalTrafficPolicy; policy != nil {
		return oneOf(*policy, internally, path)
	}
	if onNodePorts(s) || s.Spec.Type == corev1.ServiceTypeClusterIP {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

// checkIngress validates the addresses that a load balancer was given.
func checkIngress(s, old *corev1.Service, path *field.Path) (faults field.ErrorList) {
	ingress := s.Status.LoadBalancer.Ingress
	if !balanced(s) && len(ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var before []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			before = append(before, in.IP)
		}
	}
	for i, in := range ingress {
		at := path.Index(i)
		if in.IP != "" {
			faults = append(faults, utilvalidation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, before)...)
		}
		faults = append(faults, checkIPMode(in, at.Child("ipMode"))...)
		if in.Hostname == "" {
			continue
		}
		for _, fault := range utilvalidation.IsDNS1123Subdomain(in.Hostname) {
			faults = append(faults, field.Invalid(at.Child("hostname"), in.Hostname, fault))
		}
		if netutils.ParseIPSloppy(in.Hostname) != nil {
			faults = append(faults, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return faults
}

func checkIPMode(in corev1.LoadBalancerIngress, path *field.Path) field.ErrorList {
	switch {
	case in.IPMode == nil && in.IP != "":
		return field.ErrorList{field.Required(path, "must be specified when `ip` is set")}
	case in.IPMode == nil:
		return nil
	case in.IP == "":
		return field.ErrorList{field.Forbidden(path, "may not be specified when `ip` is not set")}
	case *in.IPMode != corev1.LoadBalancerIPModeVIP && *in.IPMode != corev1.LoadBalancerIPModeProxy:
		return field.ErrorList{field.NotSupported(path, in.IPMode, []corev1.LoadBalancerIPMode{corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP})}
	}
	return nil
}
