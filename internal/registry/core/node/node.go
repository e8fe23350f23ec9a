// Package node serves core/v1 nodes.
package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind Node.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.Node]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Node"),
		Resource:   "nodes",
		StorePath:  "minions",
		Singular:   "node",
		ShortNames: []string{"no"},
		New:        func() *corev1.Node { return &corev1.Node{} },
		NewList:    func() runtime.Object { return &corev1.NodeList{} },

		Default:       setDefaults,
		Prepare:       prepare,
		Validate:      check,
		PrepareUpdate: prepareUpdate,
		ValidateUpdate: func(ctx context.Context, n, old *corev1.Node) field.ErrorList {
			return append(check(ctx, n), checkUpdate(ctx, n, old)...)
		},
		Warn: warn,
		Status: &kit.SubresourceRules[*corev1.Node]{
			PrepareUpdate:  prepareStatusUpdate,
			ValidateUpdate: checkUpdate,
		},
		Selectable: func(n *corev1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": fmt.Sprint(n.Spec.Unschedulable)}
		},
		Table: table(),
	})
}

// setDefaults sets a missing allocatable to the capacity, and makes the two fields of the Pod range agree.
func setDefaults(n *corev1.Node) {
	setPodCIDRs(&n.Spec)
	validate.RoundUp(n.Status.Capacity)
	validate.RoundUp(n.Status.Allocatable)
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
}

// setPodCIDRs makes podCIDR the first of podCIDRs. If they differ, podCIDR wins, because older clients know no
// other field.
func setPodCIDRs(s *corev1.NodeSpec) {
	switch {
	case s.PodCIDR != "" && (len(s.PodCIDRs) == 0 || s.PodCIDRs[0] != s.PodCIDR):
		s.PodCIDRs = []string{s.PodCIDR}
	case s.PodCIDR == "" && len(s.PodCIDRs) > 0:
		s.PodCIDR = s.PodCIDRs[0]
	}
}

// prepare keeps the status: a node agent registers with its status.
func prepare(_ context.Context, n *corev1.Node) { dropDisabled(n) }

func prepareUpdate(_ context.Context, n, old *corev1.Node) {
	n.Status = old.Status
	dropDisabled(n)
}

func prepareStatusUpdate(_ context.Context, n, old *corev1.Node) {
	n.Spec = old.Spec
	dropDisabled(n)
}

// dropDisabled clears the fields of dynamic kubelet configuration, which Kubernetes removed, and of the
// preemption policy, which is behind a feature gate that is off.
func dropDisabled(n *corev1.Node) {
	n.Spec.ConfigSource = nil
	n.Status.Config = nil
	n.Spec.PodPreemptionPolicy = nil
}

func warn(_ context.Context, n, _ *corev1.Node) (warnings []string) {
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}
