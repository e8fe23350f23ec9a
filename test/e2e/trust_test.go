package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Pod is shown the certificates of a trust bundle, waits for one that is not there yet, and sees it change.
func TestTrustBundle(t *testing.T) {
	s := newSpace(t)
	bundles := s.node.client.CertificatesV1().ClusterTrustBundles()
	name := s.ns + "-anchors"
	pod := shellPod("trusting", "exec sleep 3600")
	pod.Spec.Volumes = []corev1.Volume{{Name: "trust", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: &name, Path: "ca.pem"}}},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "trust", MountPath: "/trust"}}
	s.create(pod)
	s.eventuallyEvent("trusting", "FailedMount", `"`+name+`" not found`)

	one, other := authority(t), authority(t)
	b, err := bundles.Create(s.ctx, &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: "# words\n" + one},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bundles.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	s.awaitRunning("trusting")
	shown := func() string { return s.kubectl("exec", "trusting", "--", "cat", "/trust/ca.pem") }
	if got := shown(); got != one {
		t.Errorf("the Pod sees\n%s\nwant\n%s", got, one)
	}
	b.Spec.TrustBundle = one + other
	if _, err := bundles.Update(s.ctx, b, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.eventually("the Pod sees both certificates", func() error {
		if got := shown(); !strings.Contains(got, one) || !strings.Contains(got, other) {
			return fmt.Errorf("it sees\n%s", got)
		}
		return nil
	})
}

// authority is the certificate of a new authority, as PEM.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "an authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
