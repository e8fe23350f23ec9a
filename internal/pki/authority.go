// Package pki is the certificate authority of a Podium cluster and the identities it gives out.
//
// Only four things are on disk: the CA's certificate and key, the key that signs service-account tokens, and
// the admin's kubeconfig. Every other certificate (the servers', one client certificate a component) is made
// in memory when it is first needed, which takes less than a millisecond, and made again when two thirds of
// its life are over, so there are no files to watch, to rotate or to leak.
package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/util/atomicfile"
)

const (
	// caLife is how long a CA certificate is valid, and caRenew how long before its end another takes over.
	caLife  = 10 * 365 * 24 * time.Hour
	caRenew = 2 * 365 * 24 * time.Hour
	// leafLife is how long the certificates of servers and clients are valid.
	leafLife = 365 * 24 * time.Hour
	// backdate allows for the clocks of other machines.
	backdate = 10 * time.Minute
)

// Authority signs certificates and knows the keys of the cluster.
type Authority struct {
	clock clock.WithDelayedExecution

	// signer is the first certificate of the bundle and key its key. The rest of the bundle are older CAs
	// whose certificates may still be in use.
	signer *x509.Certificate
	key    *ecdsa.PrivateKey
	bundle []byte
	pool   *x509.CertPool

	tokenKeys []*ecdsa.PrivateKey

	mu      sync.Mutex
	clients map[string]*client
}

// Open reads the authority from its folder, and makes what is missing or near its end. The folder is made
// 0700 and its keys 0600.
func Open(dir string, clock clock.WithDelayedExecution) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the certificates: %w", err)
	}
	a := &Authority{clock: clock, clients: map[string]*client{}}
	// Both wait for the disk when the files are made.
	var g errgroup.Group
	g.Go(func() error { return a.openCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")) })
	g.Go(func() error { return a.openTokenKeys(filepath.Join(dir, "sa.key")) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) openCA(certFile, keyFile string) error {
	bundle, err := os.ReadFile(certFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if bundle, err = a.newCA(certFile, keyFile, nil); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("read the CA certificate: %w", err)
	}
	certs, err := parseCerts(bundle)
	if err != nil {
		return fmt.Errorf("read the CA certificate %s: %w; restore it, or remove the folder to start a new CA", certFile, err)
	}
	if a.clock.Now().After(certs[0].NotAfter.Add(-caRenew)) {
		if bundle, err = a.newCA(certFile, keyFile, bundle); err != nil {
			return err
		}
		if certs, err = parseCerts(bundle); err != nil {
			return err
		}
	}
	keys, err := readKeys(keyFile)
	if err != nil {
		return fmt.Errorf("read the CA key: %w; without it no certificate can be made", err)
	}
	if !keys[0].PublicKey.Equal(certs[0].PublicKey) {
		return fmt.Errorf("the CA key %s is not that of the certificate %s", keyFile, certFile)
	}
	a.signer, a.key, a.bundle, a.pool = certs[0], keys[0], bundle, x509.NewCertPool()
	for _, c := range certs {
		a.pool.AddCert(c)
	}
	return nil
}

// newCA writes a new CA key and a bundle with its certificate before those of old that have not ended.
func (a *Authority) newCA(certFile, keyFile string, old []byte) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := a.clock.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "podium-ca"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"podium-ca"},
	}
	der, err := sign(template, template, key, key)
	if err != nil {
		return nil, fmt.Errorf("make the CA certificate: %w", err)
	}
	bundle := encodeCert(der)
	if old != nil {
		certs, err := parseCerts(old)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			if c.NotAfter.After(now) {
				bundle = append(bundle, encodeCert(c.Raw)...)
			}
		}
	}
	// The certificate comes last: a CA is there when its certificate is.
	if err := writeKeys(keyFile, []*ecdsa.PrivateKey{key}); err != nil {
		return nil, err
	}
	return bundle, writeFile(certFile, bundle, 0o644)
}

func (a *Authority) openTokenKeys(file string) error {
	keys, err := readKeys(file)
	if errors.Is(err, os.ErrNotExist) {
		var key *ecdsa.PrivateKey
		if key, err = newKey(); err == nil {
			keys = []*ecdsa.PrivateKey{key}
			err = writeKeys(file, keys)
		}
	}
	if err != nil {
		return fmt.Errorf("read the service-account key: %w", err)
	}
	a.tokenKeys = keys
	return nil
}

// Bundle is the PEM of the certificates that clients and servers trust.
func (a *Authority) Bundle() []byte { return slices.Clone(a.bundle) }

// Pool holds the same certificates.
func (a *Authority) Pool() *x509.CertPool { return a.pool.Clone() }

// TokenKeys are the keys of service-account tokens: the first signs, all of them verify.
func (a *Authority) TokenKeys() []*ecdsa.PrivateKey { return slices.Clone(a.tokenKeys) }

// sign makes a certificate with a random serial number.
func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	return x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
}

func parseCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return certs, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func readKeys(file string) ([]*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var keys []*ecdsa.PrivateKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		k, err := keyutil.ParsePrivateKeyPEM(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		ec, ok := k.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s holds a %T; an ECDSA key is wanted", file, k)
		}
		keys = append(keys, ec)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key in it", file)
	}
	return keys, nil
}

func writeKeys(file string, keys []*ecdsa.PrivateKey) error {
	var out []byte
	for _, k := range keys {
		p, err := keyutil.MarshalPrivateKeyToPEM(k)
		if err != nil {
			return err
		}
		out = append(out, p...)
	}
	return writeFile(file, out, 0o600)
}

// writeFile replaces a file in one step, and makes its folder, 0700, if it does not exist.
func writeFile(file string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := atomicfile.Write(file, data, mode, atomicfile.PowerCut); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
