package admission

import (
	"context"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// attests lets a user do what is listed as VERB RESOURCE NAME.
type attests map[string]bool

func (l attests) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if l[a.GetVerb()+" "+a.GetResource()+" "+a.GetName()] && a.GetAPIGroup() == "certificates.k8s.io" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func TestTrustBundleAttest(t *testing.T) {
	bundle := func(signer, certificates string, finalizers ...string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: "b", Finalizers: finalizers},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: certificates},
		}
	}
	const signer = "example.com/s"
	for name, tc := range map[string]struct {
		may      attests
		now, old *certificatesv1.ClusterTrustBundle
		refused  bool
	}{
		"of no signer":         {now: bundle("", "x")},
		"nobody's right":       {now: bundle(signer, "x"), refused: true},
		"by the signer's name": {may: attests{"attest signers " + signer: true}, now: bundle(signer, "x")},
		"by the domain":        {may: attests{"attest signers example.com/*": true}, now: bundle(signer, "x")},
		"another right":        {may: attests{"approve signers " + signer: true}, now: bundle(signer, "x"), refused: true},
		"other certificates":   {now: bundle(signer, "y"), old: bundle(signer, "x"), refused: true},
		"other finalizers":     {now: bundle(signer, "x"), old: bundle(signer, "x", "f")},
	} {
		t.Run(name, func(t *testing.T) {
			var old *certificatesv1.ClusterTrustBundle
			operation := admission.Create
			if tc.old != nil {
				old, operation = tc.old, admission.Update
			}
			a := admission.NewAttributesRecord(tc.now, old, certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"), "", "b",
				certificatesv1.SchemeGroupVersion.WithResource("clustertrustbundles"), "", operation, nil, false, &user.DefaultInfo{Name: "jane"})
			if err := newBundleAttest(tc.may).Validate(t.Context(), a, nil); (err != nil) != tc.refused {
				t.Errorf("refused: %v", err)
			}
		})
	}
}
