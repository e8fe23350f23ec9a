package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// configFor writes a kubeconfig of a user with these fields, who trusts the CA of this file.
func (s *space) configFor(user, ca string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"https://%s\", certificate-authority: %s}}]\n"+
		"users: [{name: u, user: {%s}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n", s.node.bind, ca, user)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func (s *space) ca() string { return filepath.Join(s.node.paths.PKI, "ca.crt") }

// A service account may do what it is given, and is told in full what it may not.
func TestRights(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "serviceaccount", "robot")
	config := s.configFor("token: "+strings.TrimSpace(s.kubectl("create", "token", "robot")), s.ca())
	user := "system:serviceaccount:" + s.ns + ":robot"
	s.says([]string{"--kubeconfig", config, "auth", "whoami"}, user, "system:serviceaccounts:"+s.ns)
	s.refused([]string{"--kubeconfig", config, "get", "pods"},
		`Error from server (Forbidden): pods is forbidden: User "`+user+`" cannot list resource "pods" in API group "" in the namespace "`+s.ns+`"`)
	s.refused([]string{"--kubeconfig", config, "get", "nodes"}, `nodes is forbidden: User "`+user+`" cannot list resource "nodes" in API group "" at the cluster scope`)
	s.refused([]string{"--kubeconfig", config, "delete", "pod", "x"}, `pods "x" is forbidden: User "`+user+`" cannot delete resource "pods"`)
	s.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
	s.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.ns+":robot")
	s.eventually("the right is there", func() error {
		out, err := s.try("--kubeconfig", config, "get", "pods")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.refused([]string{"--kubeconfig", config, "run", "x", "--image=" + shellImage}, `cannot create resource "pods"`)
	if out := s.kubectl("auth", "can-i", "list", "pods", "--as="+user); out != "yes\n" {
		s.Errorf("can-i list: %q", out)
	}
	if out, _ := s.try("auth", "can-i", "create", "pods", "--as="+user); !strings.HasPrefix(out, "no") {
		s.Errorf("can-i create: %q", out)
	}
}

// Who shows a certificate of another CA, a token that is none, or nothing, is not let in; and a server with a
// certificate of another CA is not spoken to.
func TestWrongCertificate(t *testing.T) {
	s := newSpace(t)
	cert, key := strangersCertificate(t)
	certData := fmt.Sprintf("client-certificate-data: %s, client-key-data: %s", base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key))
	for name, user := range map[string]string{"certificate": certData, "token": "token: nonsense"} {
		s.refused([]string{"--kubeconfig", s.configFor(user, s.ca()), "get", "pods"}, "You must be logged in to the server")
		_ = name
	}
	ca := filepath.Join(s.TempDir(), "other-ca.crt")
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		s.Fatal(err)
	}
	s.refused([]string{"--kubeconfig", s.configFor("token: nonsense", ca), "get", "pods"}, "x509: certificate signed by unknown authority")
}

// strangersCertificate is one for the group of the admins, which nobody has signed but itself.
func strangersCertificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger", Organization: []string{"system:masters"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}
