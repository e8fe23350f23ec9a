package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

var (
	meta = field.NewPath("metadata")
	spec = field.NewPath("spec")
)

// The valid values of some fields, in the order in which messages list them.
var (
	affinities    = []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone}
	serviceTypes  = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}
	externally    = []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}
	internally    = []corev1.ServiceInternalTrafficPolicy{corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal}
	distributions = []string{corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode}
)

// choice requires a value that is one of the known ones.
func choice[T ~string](value T, known []T, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return oneOf(value, known, path)
}

func oneOf[T ~string](value T, known []T, path *field.Path) field.ErrorList {
	if slices.Contains(known, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, known)}
}

func check(_ context.Context, s *corev1.Service) field.ErrorList {
	return append(validate.Meta(&s.ObjectMeta, true, apivalidation.NameIsDNSLabel), checkService(s, nil)...)
}

// checkService validates a service. old is nil for a create; values that it already had are accepted.
func checkService(s, old *corev1.Service) field.ErrorList {
	faults := checkTopology(s.Annotations)
	faults = append(faults, checkType(s)...)
	names := sets.New[string]()
	for i := range s.Spec.Ports {
		faults = append(faults, checkPort(&s.Spec.Ports[i], len(s.Spec.Ports) > 1, names, spec.Child("ports").Index(i))...)
	}
	faults = append(faults, metav1validation.ValidateLabels(s.Spec.Selector, spec.Child("selector"))...)
	faults = append(faults, checkAffinity(&s.Spec)...)
	faults = append(faults, checkClusterIPs(s, old)...)
	faults = append(faults, checkExternalIPs(s, old)...)
	faults = append(faults, choice(s.Spec.Type, serviceTypes, spec.Child("type"))...)
	faults = append(faults, checkNodePorts(s)...)
	faults = append(faults, checkDuplicatePorts(s.Spec.Ports)...)
	faults = append(faults, checkSourceRanges(s, old)...)
	faults = append(faults, checkBalancer(s)...)
	faults = append(faults, checkBalancerClass(s, nil)...)
	faults = append(faults, checkExternalTraffic(s)...)
	faults = append(faults, checkInternalTraffic(s)...)
	if d := s.Spec.TrafficDistribution; d != nil {
		faults = append(faults, oneOf(*d, distributions, spec.Child("trafficDistribution"))...)
	}
	return faults
}

func checkTopology(annotations map[string]string) field.ErrorList {
	hints, hinted := annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, moded := annotations[corev1.AnnotationTopologyMode]
	if !hinted || !moded || hints == mode {
		return nil
	}
	return field.ErrorList{field.Invalid(meta.Child("annotations").Key(corev1.AnnotationTopologyMode), mode,
		fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
}

// checkType validates what depends on the type alone.
func checkType(s *corev1.Service) (faults field.ErrorList) {
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		faults = append(faults, field.Required(spec.Child("ports"), ""))
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			faults = append(faults, field.Invalid(spec.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0],
				fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		faults = append(faults, checkExternalName(s)...)
	}
	return faults
}

func checkExternalName(s *corev1.Service) (faults field.ErrorList) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"clusterIPs", len(s.Spec.ClusterIPs) > 0},
		{"ipFamilies", len(s.Spec.IPFamilies) > 0},
		{"ipFamilyPolicy", s.Spec.IPFamilyPolicy != nil},
	} {
		if f.set {
			faults = append(faults, field.Forbidden(spec.Child(f.name), "may not be set for ExternalName services"))
		}
	}
	path := spec.Child("externalName")
	name := strings.TrimSuffix(s.Spec.ExternalName, ".")
	if name == "" {
		return append(faults, field.Required(path, ""))
	}
	for _, fault := range utilvalidation.IsDNS1123Subdomain(name) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	return faults
}

func checkPort(p *corev1.ServicePort, named bool, names sets.Set[string], path *field.Path) (faults field.ErrorList) {
	switch at := path.Child("name"); {
	case p.Name == "" && named:
		faults = append(faults, field.Required(at, ""))
	case p.Name != "":
		faults = append(faults, validate.Label(p.Name, at)...)
		if names.Has(p.Name) {
			faults = append(faults, field.Duplicate(at, p.Name))
		}
		names.Insert(p.Name)
	}
	for _, fault := range utilvalidation.IsValidPortNum(int(p.Port)) {
		faults = append(faults, field.Invalid(path.Child("port"), p.Port, fault))
	}
	faults = append(faults, validate.Protocol(p.Protocol, path.Child("protocol"))...)
	faults = append(faults, validate.PortNumberOrName(p.TargetPort, path.Child("targetPort"))...)
	if p.AppProtocol != nil {
		faults = append(faults, validate.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
	}
	return faults
}

func checkAffinity(s *corev1.ServiceSpec) field.ErrorList {
	faults := choice(s.SessionAffinity, affinities, spec.Child("sessionAffinity"))
	at := spec.Child("sessionAffinityConfig")
	config := s.SessionAffinityConfig
	if s.SessionAffinity == corev1.ServiceAffinityNone && config != nil {
		faults = append(faults, field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone)))
	}
	if s.SessionAffinity != corev1.ServiceAffinityClientIP {
		return faults
	}
	why := fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)
	switch {
	case config == nil:
		return append(faults, field.Required(at, why))
	case config.ClientIP == nil:
		return append(faults, field.Required(at.Child("clientIP"), why))
	case config.ClientIP.TimeoutSeconds == nil:
		return append(faults, field.Required(at.Child("clientIP", "timeoutSeconds"), why))
	}
	if t := config.ClientIP.TimeoutSeconds; *t <= 0 || *t > maxAffinitySeconds {
		faults = append(faults, field.Invalid(at.Child("clientIP", "timeoutSeconds"), t, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
	}
	return faults
}

// maxAffinitySeconds is one day, the maximum time for which a client is kept at its endpoint.
const maxAffinitySeconds = 24 * 60 * 60

func checkExternalIPs(s, old *corev1.Service) (faults field.ErrorList) {
	var before []string
	if old != nil {
		before = old.Spec.ExternalIPs
	}
	for i, ip := range s.Spec.ExternalIPs {
		at := spec.Child("externalIPs").Index(i)
		if wrong := utilvalidation.IsValidIPForLegacyField(at, ip, true, before); len(wrong) > 0 {
			faults = append(faults, wrong...)
			continue
		}
		faults = append(faults, validate.EndpointIP(ip, at)...)
	}
	return faults
}

func checkNodePorts(s *corev1.Service) (faults field.ErrorList) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	ports := spec.Child("ports")
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				faults = append(faults, field.Forbidden(ports.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
		}
	}
	seen := sets.New[key]()
	for i, p := range s.Spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		if seen.Has(key{p.Protocol, p.NodePort}) {
			faults = append(faults, field.Duplicate(ports.Index(i).Child("nodePort"), p.NodePort))
		}
		seen.Insert(key{p.Protocol, p.NodePort})
	}
	return faults
}

func checkDuplicatePorts(ports []corev1.ServicePort) (faults field.ErrorList) {
	seen := sets.New[corev1.ServicePort]()
	for i, p := range ports {
		key := corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
		if seen.Has(key) {
			faults = append(faults, field.Duplicate(spec.Child("ports").Index(i), validate.Shown(key)))
		}
		seen.Insert(key)
	}
	return faults
}
