package admission

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/apistore"
)

var claimsResource = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}

// unserved refuses Pods that need an API which this cluster does not serve: without it they would run as if they had
// not asked.
type unserved struct {
	*admission.Handler
	stores apistore.Stores
}

var _ admission.ValidationInterface = unserved{}

func newUnserved(stores apistore.Stores) unserved {
	return unserved{admission.NewHandler(admission.Create), stores}
}

// Validate implements admission.ValidationInterface.
func (u unserved) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil || err != nil {
		return err
	}
	if len(p.Spec.ResourceClaims) > 0 && u.stores(claimsResource) == nil {
		return admission.NewForbidden(a, errors.New("spec.resourceClaims: this cluster does not serve the API group resource.k8s.io yet, "+
			"so that no claim can be allocated: remove spec.resourceClaims and the resources.claims of the containers"))
	}
	return nil
}
