package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"
)

// tolerationSeconds is how long a Pod that says nothing about it stays on a node that does not answer.
const tolerationSeconds = 300

// defaultTolerationSeconds lets Pods stay for a while on nodes that are not ready or not reachable.
type defaultTolerationSeconds struct{ *admission.Handler }

var _ admission.MutationInterface = defaultTolerationSeconds{}

func newDefaultTolerationSeconds() defaultTolerationSeconds {
	return defaultTolerationSeconds{admission.NewHandler(admission.Create, admission.Update)}
}

// Admit implements admission.MutationInterface.
func (defaultTolerationSeconds) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil {
		return err
	}
	given := p.Spec.Tolerations
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if slices.ContainsFunc(given, func(t corev1.Toleration) bool {
			return (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}) {
			continue
		}
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
			TolerationSeconds: ptr.To(int64(tolerationSeconds)),
		})
	}
	return nil
}
