package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/apistore"
)

// taintNodes gives each new node the not-ready taint, so that no Pod lands on it before it says it is ready.
type taintNodes struct{ *admission.Handler }

var _ admission.MutationInterface = taintNodes{}

func newTaintNodes() taintNodes { return taintNodes{admission.NewHandler(admission.Create)} }

// Admit implements admission.MutationInterface.
func (taintNodes) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != apistore.Core("nodes") || a.GetSubresource() != "" {
		return nil
	}
	node, ok := a.GetObject().(*corev1.Node)
	if !ok {
		return admission.NewForbidden(a, fmt.Errorf("unexpected type %T", a.GetObject()))
	}
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	for _, t := range node.Spec.Taints {
		if t.MatchTaint(&taint) {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, taint)
	return nil
}
