package admission

import (
	"context"

	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/registry/podspec"
)

// podBounds refuses Pods with lists that are too long, before another plug-in compares what is in them. It has no counterpart in
// Kubernetes. The validation refuses them too, for templates and static Pods.
type podBounds struct{ *admission.Handler }

var _ admission.MutationInterface = podBounds{}

func newPodBounds() podBounds {
	return podBounds{admission.NewHandler(admission.Create, admission.Update)}
}

// Admit implements admission.MutationInterface: those come before all that only look.
func (podBounds) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != podsResource || a.GetObject() == nil {
		return nil
	}
	if faults := podspec.Bounds(a.GetObject()); len(faults) > 0 {
		return admission.NewForbidden(a, faults.ToAggregate())
	}
	return nil
}
