package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

var requestsResource = schema.GroupResource{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}

// forRequests reports whether an admission is for this subresource of CertificateSigningRequests ("" for the requests themselves).
func forRequests(a admission.Attributes, subresource string) bool {
	return a.GetResource().GroupResource() == requestsResource && a.GetSubresource() == subresource
}

// certificateApproval admits a decision on a certificate request only from users who may approve for its signer: the verb approve
// on the signer, besides the verb update on the subresource.
type certificateApproval struct {
	*admission.Handler
	all authorizer.UnconditionalAuthorizer
}

var _ admission.ValidationInterface = certificateApproval{}

func newCertificateApproval(all authorizer.UnconditionalAuthorizer) certificateApproval {
	return certificateApproval{admission.NewHandler(admission.Update), all}
}

// Validate implements admission.ValidationInterface. The signer is the stored one: an update cannot choose it.
func (c certificateApproval) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !forRequests(a, "approval") {
		return nil
	}
	old, err := asRequest(a, a.GetOldObject())
	if err != nil {
		return err
	}
	if !allowsSigner(ctx, c.all, a.GetUserInfo(), "approve", old.Spec.SignerName) {
		return admission.NewForbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// certificateSigning admits a certificate, or a condition that says why there is none, only from users who may sign for the
// request's signer: the verb sign on the signer, besides the verb update on the subresource.
type certificateSigning struct {
	*admission.Handler
	all authorizer.UnconditionalAuthorizer
}

var _ admission.ValidationInterface = certificateSigning{}

func newCertificateSigning(all authorizer.UnconditionalAuthorizer) certificateSigning {
	return certificateSigning{admission.NewHandler(admission.Update), all}
}

// Validate implements admission.ValidationInterface. An update that changes neither needs no right to sign: who takes a request
// away in the end changes its finalizers.
func (c certificateSigning) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !forRequests(a, "status") {
		return nil
	}
	old, err := asRequest(a, a.GetOldObject())
	if err != nil {
		return err
	}
	now, err := asRequest(a, a.GetObject())
	if err != nil {
		return err
	}
	if bytes.Equal(old.Status.Certificate, now.Status.Certificate) && apiequality.Semantic.DeepEqual(old.Status.Conditions, now.Status.Conditions) {
		return nil
	}
	if !allowsSigner(ctx, c.all, a.GetUserInfo(), "sign", old.Spec.SignerName) {
		return admission.NewForbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// certificateSubjectRestriction refuses requests to the signer of the API server's clients for the group that may do everything.
type certificateSubjectRestriction struct{ *admission.Handler }

var _ admission.ValidationInterface = certificateSubjectRestriction{}

func newCertificateSubjectRestriction() certificateSubjectRestriction {
	return certificateSubjectRestriction{admission.NewHandler(admission.Create)}
}

// Validate implements admission.ValidationInterface.
func (certificateSubjectRestriction) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !forRequests(a, "") {
		return nil
	}
	r, err := asRequest(a, a.GetObject())
	if err != nil {
		return err
	}
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	groups, err := organizations(r.Spec.Request)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("failed to parse CSR: %v", err))
	}
	if slices.Contains(groups, user.SystemPrivilegedGroup) {
		return admission.NewForbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", r.Spec.SignerName, user.SystemPrivilegedGroup))
	}
	return nil
}

// organizations returns the groups that a request in PEM asks for: the organizations of its subject.
func organizations(request []byte) ([]string, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return parsed.Subject.Organization, nil
}
