package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"sync"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// newKey makes a key on P-256: made and used far faster than RSA's, and known to every client.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// ServerName is who a server's certificate is for.
type ServerName struct {
	// Subject is the common name, and Groups the organizations.
	Subject string
	Groups  []string
	IPs     []net.IP
	DNS     []string
}

// Certificate is a certificate that is made when it is first asked for and again when two thirds of its
// life are over. It is safe for concurrent use.
type Certificate struct {
	a        *Authority
	template func() *x509.Certificate

	mu      sync.Mutex
	current *tls.Certificate
	renewAt time.Time
}

// Server returns the certificate of a server.
func (a *Authority) Server(name ServerName) *Certificate {
	return &Certificate{a: a, template: func() *x509.Certificate {
		return &x509.Certificate{
			Subject:     pkix.Name{CommonName: name.Subject, Organization: name.Groups},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			IPAddresses: name.IPs,
			DNSNames:    name.DNS,
		}
	}}
}

// Client returns the client certificate of an identity.
func (a *Authority) Client(who Identity) *Certificate {
	return &Certificate{a: a, template: func() *x509.Certificate {
		return &x509.Certificate{
			Subject:     pkix.Name{CommonName: who.User, Organization: who.Groups},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
	}}
}

// Get returns a certificate that is valid for at least another third of its life.
func (c *Certificate) Get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.a.clock.Now()
	if c.current != nil && now.Before(c.renewAt) {
		return c.current, nil
	}
	template := c.template()
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = now.Add(leafLife)
	if template.NotAfter.After(c.a.signer.NotAfter) {
		template.NotAfter = c.a.signer.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := sign(template, c.a.signer, key, c.a.key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of %q: %w", template.Subject.CommonName, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of %q: %w", template.Subject.CommonName, err)
	}
	c.current = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	c.renewAt = renewal(leaf)
	return c.current, nil
}

// PEM returns the same certificate and its key as PEM.
func (c *Certificate) PEM() (cert, key []byte, err error) {
	t, err := c.Get()
	if err != nil {
		return nil, nil, err
	}
	key, err = keyutil.MarshalPrivateKeyToPEM(t.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return encodeCert(t.Certificate[0]), key, nil
}

// GetCertificate is for tls.Config.
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Get() }

// GetClientCertificate is for tls.Config.
func (c *Certificate) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.Get()
}

// renewal is when two thirds of a certificate's life are over.
func renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}
