package ingress

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/validate"
)

// lenience defines what an update may keep of a stored ingress: invalid names of secrets, and invalid rules for
// wildcard hosts.
type lenience struct{ secretNames, wildcardRules bool }

func lenienceOf(old *networkingv1.Ingress) (l lenience) {
	for _, t := range old.Spec.TLS {
		l.secretNames = l.secretNames || len(secretName(t.SecretName)) > 0
	}
	for _, r := range old.Spec.Rules {
		l.wildcardRules = l.wildcardRules || strings.Contains(r.Host, "*") && len(checkHTTP(r.HTTP, nil)) > 0
	}
	return l
}

func check(_ context.Context, i *networkingv1.Ingress) field.ErrorList {
	faults := checkIngress(i, lenience{})
	class, set := i.Annotations[classAnnotation]
	if set && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		faults = append(faults, field.Invalid(field.NewPath("annotations").Child(classAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return faults
}

func checkUpdate(_ context.Context, i, old *networkingv1.Ingress) field.ErrorList {
	return append(validate.MetaUpdate(&i.ObjectMeta, &old.ObjectMeta), checkIngress(i, lenienceOf(old))...)
}

func checkIngress(i *networkingv1.Ingress, l lenience) field.ErrorList {
	s, path := &i.Spec, field.NewPath("spec")
	faults := validate.Meta(&i.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		faults = append(faults, field.Invalid(path, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		faults = append(faults, checkBackend(s.DefaultBackend, path.Child("defaultBackend"))...)
	}
	for n := range s.Rules {
		faults = append(faults, checkRule(&s.Rules[n], l, path.Child("rules").Index(n))...)
	}
	for n := range s.TLS {
		faults = append(faults, checkTLS(&s.TLS[n], l, path.Child("tls").Index(n))...)
	}
	if s.IngressClassName != nil {
		faults = append(faults, validate.Subdomain(*s.IngressClassName, path.Child("ingressClassName"))...)
	}
	return faults
}

// checkHost requires a DNS name, which may start with a wildcard.
func checkHost(host string, path *field.Path) (faults field.ErrorList) {
	if !strings.Contains(host, "*") {
		return validate.Subdomain(host, path)
	}
	for _, fault := range utilvalidation.IsWildcardDNS1123Subdomain(host) {
		faults = append(faults, field.Invalid(path, host, fault))
	}
	return faults
}

func checkTLS(t *networkingv1.IngressTLS, l lenience, path *field.Path) (faults field.ErrorList) {
	for i, host := range t.Hosts {
		faults = append(faults, checkHost(host, path.Child("hosts").Index(i))...)
	}
	if l.secretNames {
		return faults
	}
	for _, fault := range secretName(t.SecretName) {
		faults = append(faults, field.Invalid(path.Child("secretName"), t.SecretName, fault))
	}
	return faults
}

func secretName(name string) []string {
	if name == "" {
		return nil
	}
	return apivalidation.NameIsDNSSubdomain(name, false)
}

func checkRule(r *networkingv1.IngressRule, l lenience, path *field.Path) (faults field.ErrorList) {
	if r.Host != "" {
		if netutils.ParseIPSloppy(r.Host) != nil {
			faults = append(faults, field.Invalid(path.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		faults = append(faults, checkHost(r.Host, path.Child("host"))...)
	}
	if strings.Contains(r.Host, "*") && l.wildcardRules {
		return faults
	}
	return append(faults, checkHTTP(r.HTTP, path.Child("http"))...)
}

func checkHTTP(h *networkingv1.HTTPIngressRuleValue, path *field.Path) (faults field.ErrorList) {
	if h == nil {
		return nil
	}
	if len(h.Paths) == 0 {
		faults = append(faults, field.Required(path.Child("paths"), ""))
	}
	for i := range h.Paths {
		faults = append(faults, checkPath(&h.Paths[i], path.Child("paths").Index(i))...)
	}
	return faults
}

func checkPath(p *networkingv1.HTTPIngressPath, path *field.Path) (faults field.ErrorList) {
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	refuse := func(fault string) { faults = append(faults, field.Invalid(path.Child("path"), p.Path, fault)) }
	absolute := strings.HasPrefix(p.Path, "/")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !absolute {
			refuse("must be an absolute path")
		}
		for _, piece := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, piece) {
				refuse(fmt.Sprintf("must not contain '%s'", piece))
			}
		}
		for _, end := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, end) {
				refuse(fmt.Sprintf("cannot end with '%s'", end))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !absolute {
			refuse("must be an absolute path")
		}
	default:
		faults = append(faults, field.NotSupported(path.Child("pathType"), *p.PathType, []string{
			string(networkingv1.PathTypeExact), string(networkingv1.PathTypeImplementationSpecific), string(networkingv1.PathTypePrefix)}))
	}
	return append(faults, checkBackend(&p.Backend, path.Child("backend"))...)
}

// checkBackend requires a service with one of its ports, or another object.
func checkBackend(b *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return checkResource(b.Resource, path.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
	}
	var faults field.ErrorList
	at := path.Child("service")
	if b.Service.Name == "" {
		faults = append(faults, field.Required(at.Child("name"), ""))
	} else {
		faults = append(faults, validate.Label(b.Service.Name, at.Child("name"))...)
	}
	switch port := b.Service.Port; {
	case port.Name != "" && port.Number != 0:
		faults = append(faults, field.Invalid(path, "", "cannot set both port name & port number"))
	case port.Name != "":
		for _, fault := range utilvalidation.IsValidPortName(port.Name) {
			faults = append(faults, field.Invalid(at.Child("port", "name"), port.Name, fault))
		}
	case port.Number != 0:
		for _, fault := range utilvalidation.IsValidPortNum(int(port.Number)) {
			faults = append(faults, field.Invalid(at.Child("port", "number"), port.Number, fault))
		}
	default:
		faults = append(faults, field.Required(path, "port name or number is required"))
	}
	return faults
}

func checkResource(r *corev1.TypedLocalObjectReference, path *field.Path) (faults field.ErrorList) {
	if r.APIGroup != nil {
		faults = append(faults, validate.Subdomain(*r.APIGroup, path.Child("apiGroup"))...)
	}
	faults = append(faults, validate.Segment(r.Kind, path.Child("kind"))...)
	return append(faults, validate.Segment(r.Name, path.Child("name"))...)
}

func checkStatusUpdate(_ context.Context, i, old *networkingv1.Ingress) field.ErrorList {
	faults := validate.MetaUpdate(&i.ObjectMeta, &old.ObjectMeta)
	var before []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			before = append(before, in.IP)
		}
	}
	for n, in := range i.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(n)
		if in.IP != "" {
			faults = append(faults, utilvalidation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, before)...)
		}
		if in.Hostname == "" {
			continue
		}
		faults = append(faults, validate.Subdomain(in.Hostname, at.Child("hostname"))...)
		if netutils.ParseIPSloppy(in.Hostname) != nil {
			faults = append(faults, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return faults
}
