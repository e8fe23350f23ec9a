package object

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

func bundle(name, signer, label string, certificates ...string) *certificatesv1.ClusterTrustBundle {
	b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"of": label}}}
	b.Spec.SignerName = signer
	for _, c := range certificates {
		b.Spec.TrustBundle += "a word beside\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(c)}))
	}
	return b
}

func TestTrustAnchors(t *testing.T) {
	const signer = "example.com/s"
	s := NewStore(Config{Client: fake.NewClientset(
		bundle("plain", "", "", "a", "b", "a"), bundle("example.com:s:one", signer, "x", "c"), bundle("example.com:s:two", signer, "y", "d", "c"),
		bundle("example.com:other:one", "example.com/other", "x", "e"),
	)})
	everything, none := &metav1.LabelSelector{}, &metav1.LabelSelector{MatchLabels: map[string]string{"of": "nobody"}}
	for name, tc := range map[string]struct {
		projection v1.ClusterTrustBundleProjection
		want       string // the certificates, in any order
		fault      string
	}{
		"by name, each once":         {projection: v1.ClusterTrustBundleProjection{Name: ptr.To("plain")}, want: "ab"},
		"no such name":               {projection: v1.ClusterTrustBundleProjection{Name: ptr.To("none")}, fault: `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "none" not found`},
		"no such name, optional":     {projection: v1.ClusterTrustBundleProjection{Name: ptr.To("none"), Optional: ptr.To(true)}},
		"all of a signer":            {projection: v1.ClusterTrustBundleProjection{SignerName: ptr.To(signer), LabelSelector: everything}, want: "cd"},
		"some of a signer":           {projection: v1.ClusterTrustBundleProjection{SignerName: ptr.To(signer), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"of": "x"}}}, want: "c"},
		"of a signer, none selected": {projection: v1.ClusterTrustBundleProjection{SignerName: ptr.To(signer), LabelSelector: none}, fault: "matched zero ClusterTrustBundles"},
		"of a signer, no selector":   {projection: v1.ClusterTrustBundleProjection{SignerName: ptr.To(signer)}, fault: "matched zero ClusterTrustBundles"},
		"none, optional":             {projection: v1.ClusterTrustBundleProjection{SignerName: ptr.To(signer), LabelSelector: none, Optional: ptr.To(true)}},
		"of nobody":                  {fault: "requires either name or signerName"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}, Spec: v1.PodSpec{Volumes: []v1.Volume{{
				Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ClusterTrustBundle: &tc.projection}}}},
			}}}}
			s.Register(pod)
			defer s.Unregister(pod.UID)
			got, err := s.TrustAnchors(t.Context(), &tc.projection)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Fatalf("got %v, want an error with %q", err, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again, _ := s.TrustAnchors(t.Context(), &tc.projection)
			if !bytes.Equal(got, again) {
				t.Error("the order changes from one reading to the next")
			}
			seen := 0
			for block, rest := pem.Decode(got); block != nil; block, rest = pem.Decode(rest) {
				seen++
				if !strings.Contains(tc.want, string(block.Bytes)) {
					t.Errorf("%s is not wanted", block.Bytes)
				}
			}
			if seen != len(tc.want) || bytes.Contains(got, []byte("a word")) {
				t.Errorf("got %d certificates:\n%s", seen, got)
			}
		})
	}
	if len(s.scopes) > 0 {
		t.Errorf("watches are left: %v", s.scopes)
	}
}
