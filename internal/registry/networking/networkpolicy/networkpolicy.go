// Package networkpolicy serves networking.k8s.io/v1 networkpolicies.
package networkpolicy

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
)

// Kind returns the kind NetworkPolicy.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*networkingv1.NetworkPolicy]{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
		Resource:   "networkpolicies",
		Singular:   "networkpolicy",
		ShortNames: []string{"netpol"},
		Namespaced: true,
		New:        func() *networkingv1.NetworkPolicy { return &networkingv1.NetworkPolicy{} },
		NewList:    func() runtime.Object { return &networkingv1.NetworkPolicyList{} },

		Default:  setDefaults,
		Prepare:  func(_ context.Context, p *networkingv1.NetworkPolicy) { p.Generation = 1 },
		Validate: check,
		PrepareUpdate: func(_ context.Context, p, old *networkingv1.NetworkPolicy) {
			specstatus.Count(p, old, p.Spec, old.Spec)
		},
		ValidateUpdate: checkUpdate,
		Warn: func(_ context.Context, p, _ *networkingv1.NetworkPolicy) (warnings []string) {
			for block, at := range blocks(&p.Spec) {
				warnings = append(warnings, utilvalidation.GetWarningsForCIDR(at.Child("cidr"), block.CIDR)...)
				for i, except := range block.Except {
					warnings = append(warnings, utilvalidation.GetWarningsForCIDR(at.Child("except").Index(i), except)...)
				}
			}
			return warnings
		},
		Table: &kit.Table[*networkingv1.NetworkPolicy]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]),
				column.Age(),
			},
			Row: func(p *networkingv1.NetworkPolicy) ([]any, []metav1.TableRowCondition) {
				return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), column.Since(p.CreationTimestamp)}, nil
			},
		},
	})
}

// setDefaults sets missing policy types: ingress, and egress if the policy has egress rules.
func setDefaults(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		defaultPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) > 0 {
		return
	}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(p.Spec.Egress) > 0 {
		p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = new(corev1.ProtocolTCP)
		}
	}
}

// blocks iterates over the address ranges of a policy and their paths.
func blocks(s *networkingv1.NetworkPolicySpec) func(func(*networkingv1.IPBlock, *field.Path) bool) {
	return func(yield func(*networkingv1.IPBlock, *field.Path) bool) {
		peers := func(list []networkingv1.NetworkPolicyPeer, at *field.Path) bool {
			for i, peer := range list {
				if peer.IPBlock != nil && !yield(peer.IPBlock, at.Index(i).Child("ipBlock")) {
					return false
				}
			}
			return true
		}
		for i, rule := range s.Ingress {
			if !peers(rule.From, field.NewPath("spec", "ingress").Index(i).Child("from")) {
				return
			}
		}
		for i, rule := range s.Egress {
			if !peers(rule.To, field.NewPath("spec", "egress").Index(i).Child("to")) {
				return
			}
		}
	}
}
