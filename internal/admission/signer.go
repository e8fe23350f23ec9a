package admission

import (
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/klog/v2"
)

// allowsSigner reports whether the user has the verb (approve, sign, attest) on a signer of certificates.k8s.io, granted by the
// signer's name or by DOMAIN/* for all signers of its domain. An authorizer that fails grants nothing. Source:
// https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization
func allowsSigner(ctx context.Context, all authorizer.UnconditionalAuthorizer, who user.Info, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, reason, err := all.Authorize(ctx, authorizer.AttributesRecord{
			User: who, Verb: verb, Name: name,
			APIGroup: certificatesv1.GroupName, APIVersion: "*", Resource: "signers", ResourceRequest: true,
		})
		switch {
		case err != nil:
			klog.FromContext(ctx).Error(err, "Failed to authorize the use of a signer", "verb", verb, "signer", name, "reason", reason)
		case decision == authorizer.DecisionAllow:
			return true
		}
	}
	return false
}

// asRequest returns an object of an admission as the CertificateSigningRequest that it has to be.
func asRequest(a admission.Attributes, o any) (*certificatesv1.CertificateSigningRequest, error) {
	r, ok := o.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil, admission.NewForbidden(a, fmt.Errorf("expected type CertificateSigningRequest, got: %T", o))
	}
	return r, nil
}
