package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/apistore"
)

// podTopologyLabels tells Pods by labels in which zone and region their node is.
type podTopologyLabels struct {
	*admission.Handler
	stores apistore.Stores
}

var _ admission.MutationInterface = &podTopologyLabels{}

func newPodTopologyLabels(stores apistore.Stores) *podTopologyLabels {
	return &podTopologyLabels{Handler: admission.NewHandler(admission.Create), stores: stores}
}

// Admit implements admission.MutationInterface, for Pods that name their node and for bindings, whose labels
// go over to the Pod.
func (t *podTopologyLabels) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != podsResource {
		return nil
	}
	var node string
	var labels *map[string]string
	switch o := a.GetObject().(type) {
	case *corev1.Pod:
		if a.GetSubresource() != "" {
			return nil
		}
		node, labels = o.Spec.NodeName, &o.Labels
	case *corev1.Binding:
		if o.Target.Kind != "Node" {
			return nil
		}
		node, labels = o.Target.Name, &o.Labels
	}
	if node == "" || len(path.IsValidPathSegmentName(node)) > 0 { // what is no name is refused later
		return nil
	}
	n, err := apistore.Get[*corev1.Node](ctx, t.stores, apistore.Core("nodes"), "", node)
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		if value, ok := n.Labels[key]; ok {
			if *labels == nil {
				*labels = map[string]string{}
			}
			(*labels)[key] = value
		}
	}
	return nil
}
