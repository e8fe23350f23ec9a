package admission

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

var trustBundlesResource = schema.GroupResource{Group: certificatesv1.GroupName, Resource: "clustertrustbundles"}

// bundleAttest lets only those say whom to trust in a signer's name who may attest for that signer: the verb attest on
// signers of certificates.k8s.io, by the signer's name or DOMAIN/*.
type bundleAttest struct {
	*admission.Handler
	all authorizer.UnconditionalAuthorizer
}

var _ admission.ValidationInterface = bundleAttest{}

func newBundleAttest(all authorizer.UnconditionalAuthorizer) bundleAttest {
	return bundleAttest{admission.NewHandler(admission.Create, admission.Update), all}
}

// Validate implements admission.ValidationInterface.
func (b bundleAttest) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != trustBundlesResource {
		return nil
	}
	bundle, ok := a.GetObject().(*certificatesv1.ClusterTrustBundle)
	if !ok {
		return admission.NewForbidden(a, fmt.Errorf("expected type ClusterTrustBundle, got: %T", a.GetObject()))
	}
	signer := bundle.Spec.SignerName
	if signer == "" {
		return nil
	}
	// Who takes an object away in the end changes its owners and finalizers only.
	if old, ok := a.GetOldObject().(*certificatesv1.ClusterTrustBundle); ok && a.GetOperation() == admission.Update && sameButForOwners(bundle, old) {
		return nil
	}
	if allowsSigner(ctx, b.all, a.GetUserInfo(), "attest", signer) {
		return nil
	}
	return admission.NewForbidden(a, fmt.Errorf("user not permitted to attest for signerName %q", signer))
}

// sameButForOwners reports whether two versions differ in owners, finalizers and what every write changes only.
func sameButForOwners(now, old *certificatesv1.ClusterTrustBundle) bool {
	now = now.DeepCopy()
	now.OwnerReferences, now.Finalizers = old.OwnerReferences, old.Finalizers
	now.ManagedFields, now.ResourceVersion = old.ManagedFields, old.ResourceVersion
	return apiequality.Semantic.DeepEqual(now, old)
}
