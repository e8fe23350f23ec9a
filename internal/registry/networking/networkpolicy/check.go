package networkpolicy

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/validate"
)

// lenience defines what an update may keep of a stored policy: invalid label values, and address ranges in an
// old form.
type lenience struct {
	selector metav1validation.LabelSelectorValidationOptions
	cidrs    []string
}

func check(_ context.Context, p *networkingv1.NetworkPolicy) field.ErrorList {
	return validate.InOrder(
		validate.Meta(&p.ObjectMeta, true, apivalidation.NameIsDNSSubdomain),
		lenience{}.spec(&p.Spec, field.NewPath("spec")),
	)
}

func checkUpdate(_ context.Context, p, old *networkingv1.NetworkPolicy) field.ErrorList {
	var l lenience
	l.selector.AllowInvalidLabelValueInSelector = len(metav1validation.ValidateLabelSelector(&old.Spec.PodSelector, l.selector, nil)) > 0
	for block := range blocks(&old.Spec) {
		l.cidrs = append(append(l.cidrs, block.CIDR), block.Except...)
	}
	return validate.InOrder(
		validate.MetaUpdate(&p.ObjectMeta, &old.ObjectMeta),
		l.spec(&p.Spec, field.NewPath("spec")),
	)
}

func (l lenience) spec(s *networkingv1.NetworkPolicySpec, path *field.Path) field.ErrorList {
	faults := metav1validation.ValidateLabelSelector(&s.PodSelector, l.selector, path.Child("podSelector"))
	for i, rule := range s.Ingress {
		faults = append(faults, l.rule(rule.Ports, rule.From, "from", path.Child("ingress").Index(i))...)
	}
	for i, rule := range s.Egress {
		faults = append(faults, l.rule(rule.Ports, rule.To, "to", path.Child("egress").Index(i))...)
	}
	known := []string{string(networkingv1.PolicyTypeIngress), string(networkingv1.PolicyTypeEgress)}
	at := path.Child("policyTypes")
	if len(s.PolicyTypes) > len(known) {
		return append(faults, field.Invalid(at, &s.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range s.PolicyTypes {
		if !slices.Contains(known, string(t)) {
			faults = append(faults, field.NotSupported(at.Index(i), t, known))
		}
	}
	return faults
}

// rule validates one rule at path. name is the field of its peers.
func (l lenience) rule(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, name string, path *field.Path) (faults field.ErrorList) {
	for i := range ports {
		faults = append(faults, checkPort(&ports[i], path.Child("ports").Index(i))...)
	}
	for i := range peers {
		faults = append(faults, l.peer(&peers[i], path.Child(name).Index(i))...)
	}
	return faults
}

func checkPort(p *networkingv1.NetworkPolicyPort, path *field.Path) (faults field.ErrorList) {
	if known := []string{string(corev1.ProtocolTCP), string(corev1.ProtocolUDP), string(corev1.ProtocolSCTP)}; p.Protocol != nil && !slices.Contains(known, string(*p.Protocol)) {
		faults = append(faults, field.NotSupported(path.Child("protocol"), *p.Protocol, known))
	}
	end := path.Child("endPort")
	switch {
	case p.Port == nil && p.EndPort != nil:
		return append(faults, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
	case p.Port == nil:
		return faults
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			faults = append(faults, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		for _, fault := range utilvalidation.IsValidPortName(p.Port.StrVal) {
			faults = append(faults, field.Invalid(path.Child("port"), p.Port.StrVal, fault))
		}
		return faults
	}
	for _, fault := range utilvalidation.IsValidPortNum(int(p.Port.IntVal)) {
		faults = append(faults, field.Invalid(path.Child("port"), p.Port.IntVal, fault))
	}
	if p.EndPort == nil {
		return faults
	}
	if *p.EndPort < p.Port.IntVal {
		faults = append(faults, field.Invalid(end, *p.EndPort, "must be greater than or equal to `port`"))
	}
	for _, fault := range utilvalidation.IsValidPortNum(int(*p.EndPort)) {
		faults = append(faults, field.Invalid(end, *p.EndPort, fault))
	}
	return faults
}

func (l lenience) peer(p *networkingv1.NetworkPolicyPeer, path *field.Path) (faults field.ErrorList) {
	faults = append(faults, metav1validation.ValidateLabelSelector(p.PodSelector, l.selector, path.Child("podSelector"))...)
	faults = append(faults, metav1validation.ValidateLabelSelector(p.NamespaceSelector, l.selector, path.Child("namespaceSelector"))...)
	if p.IPBlock != nil {
		faults = append(faults, l.block(p.IPBlock, path.Child("ipBlock"))...)
	}
	switch selects := p.PodSelector != nil || p.NamespaceSelector != nil; {
	case !selects && p.IPBlock == nil:
		faults = append(faults, field.Required(path, "must specify a peer"))
	case selects && p.IPBlock != nil:
		faults = append(faults, field.Forbidden(path, "may not specify both ipBlock and another peer"))
	}
	return faults
}

// block requires an address range, and exceptions that lie within it.
func (l lenience) block(b *networkingv1.IPBlock, path *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{validate.Missing(path.Child("cidr"))}
	}
	faults := utilvalidation.IsValidCIDRForLegacyField(path.Child("cidr"), b.CIDR, true, l.cidrs)
	_, all, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return faults
	}
	for i, except := range b.Except {
		at := path.Child("except").Index(i)
		faults = append(faults, utilvalidation.IsValidCIDRForLegacyField(at, except, true, l.cidrs)...)
		_, some, err := netutils.ParseCIDRSloppy(except)
		if err != nil {
			continue
		}
		length, _ := all.Mask.Size()
		if n, _ := some.Mask.Size(); !all.Contains(some.IP) || length >= n {
			faults = append(faults, field.Invalid(at, except, "must be a strict subset of `cidr`"))
		}
	}
	return faults
}
