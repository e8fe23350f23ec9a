package admission

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
)

func csrAttributes(now, old *certificatesv1.CertificateSigningRequest, subresource string, op admission.Operation) admission.Attributes {
	var before runtime.Object
	if old != nil {
		before = old
	}
	return admission.NewAttributesRecord(now, before, certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"), "", "r",
		certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), subresource, op, nil, false, &user.DefaultInfo{Name: "jane"})
}

// A user who may update the subresources of certificate requests decides on and signs those of his own signers only.
func TestCertificateRequestSigners(t *testing.T) {
	const signer = "example.com/s"
	request := func(signer, certificate string, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}}
		r.Spec.SignerName, r.Status.Certificate = signer, []byte(certificate)
		for _, c := range conditions {
			r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: "True"})
		}
		return r
	}
	approved := request(signer, "", certificatesv1.CertificateApproved)
	approve, sign := newCertificateApproval, newCertificateSigning
	for name, tc := range map[string]struct {
		may         attests
		subresource string
		now, old    *certificatesv1.CertificateSigningRequest
		refused     string
	}{
		"approve without a right":            {subresource: "approval", now: approved, old: request(signer, ""), refused: `user not permitted to approve requests with signerName "example.com/s"`},
		"approve by the name":                {may: attests{"approve signers " + signer: true}, subresource: "approval", now: approved, old: request(signer, "")},
		"approve by the domain":              {may: attests{"approve signers example.com/*": true}, subresource: "approval", now: approved, old: request(signer, "")},
		"approve with the right to sign":     {may: attests{"sign signers " + signer: true}, subresource: "approval", now: approved, old: request(signer, ""), refused: "not permitted to approve"},
		"approve what is named a new signer": {may: attests{"approve signers " + signer: true}, subresource: "approval", now: approved, old: request("example.org/other", ""), refused: `signerName "example.org/other"`},
		"sign without a right":               {subresource: "status", now: request(signer, "c"), old: request(signer, ""), refused: `user not permitted to sign requests with signerName "example.com/s"`},
		"fail without a right":               {subresource: "status", now: request(signer, "", certificatesv1.CertificateFailed), old: request(signer, ""), refused: "not permitted to sign"},
		"sign by the name":                   {may: attests{"sign signers " + signer: true}, subresource: "status", now: request(signer, "c"), old: request(signer, "")},
		"sign with the right to approve":     {may: attests{"approve signers " + signer: true}, subresource: "status", now: request(signer, "c"), old: request(signer, ""), refused: "not permitted to sign"},
		"neither certificate nor conditions": {subresource: "status", now: request(signer, ""), old: request(signer, "")},
		"the request itself":                 {now: request(signer, ""), old: request(signer, "")},
	} {
		t.Run(name, func(t *testing.T) {
			a := csrAttributes(tc.now, tc.old, tc.subresource, admission.Update)
			var said string
			for _, p := range []admission.ValidationInterface{approve(tc.may), sign(tc.may)} {
				if err := p.Validate(t.Context(), a, nil); err != nil {
					said += err.Error()
				}
			}
			if (said != "") != (tc.refused != "") || !strings.Contains(said, tc.refused) {
				t.Errorf("refused with %q, expected %q", said, tc.refused)
			}
		})
	}
}

// Nobody gets a certificate of the group that may do everything from the signer of the API server's clients.
func TestCertificateSubjectRestriction(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: groups}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		}}
	}
	const clients = certificatesv1.KubeAPIServerClientSignerName
	broken := ask(clients)
	broken.Spec.Request = []byte("nonsense")
	for name, tc := range map[string]struct {
		request *certificatesv1.CertificateSigningRequest
		refused string
	}{
		"other groups":         {ask(clients, "a", "b"), ""},
		"the masters":          {ask(clients, "a", "system:masters"), "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		"of another signer":    {ask("example.com/s", "system:masters"), ""},
		"what cannot be read":  {broken, "failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"},
		"of no group whatever": {ask(clients), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := newCertificateSubjectRestriction().Validate(t.Context(), csrAttributes(tc.request, nil, "", admission.Create), nil)
			if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("refused with %v, expected %q", err, tc.refused)
			}
		})
	}
}
