package apiserver

import (
	"crypto/tls"
	"fmt"
	"net"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"podium.dev/podium/internal/cluster"
	"podium.dev/podium/internal/pki"
)

// serving listens at cfg.Bind with a certificate for all that clients may call the server.
func serving(cfg Config) (*genericapiserver.SecureServingInfo, error) {
	listener, err := net.Listen("tcp", cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w; stop what listens there, or choose another address with --bind", cfg.Bind, err)
	}
	name := pki.ServerName{
		Subject: "kube-apiserver",
		DNS:     append(cluster.APIServerNames(), "localhost"),
		IPs:     []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, cfg.Advertise, cfg.ServiceRange.Addr().Next().AsSlice()},
	}
	for _, san := range cfg.SANs {
		if ip := net.ParseIP(san); ip != nil {
			name.IPs = append(name.IPs, ip)
		} else {
			name.DNS = append(name.DNS, san)
		}
	}
	if host, _, err := net.SplitHostPort(cfg.Bind); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
			name.IPs = append(name.IPs, ip)
		}
	}
	ca, err := dynamiccertificates.NewStaticCAContent("client-ca", cfg.PKI.Bundle())
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("use the CA: %w", err)
	}
	cert := &servingCert{cert: cfg.PKI.Server(name)}
	if _, _, err := cert.cert.PEM(); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return &genericapiserver.SecureServingInfo{
		Listener: listener, Cert: cert, ClientCA: ca, MinTLSVersion: tls.VersionTLS12, CipherSuites: pki.CipherSuites(),
	}, nil
}

// servingCert gives the generic server a certificate that is renewed in memory.
type servingCert struct{ cert *pki.Certificate }

// Name implements dynamiccertificates.CertKeyContentProvider.
func (*servingCert) Name() string { return "serving-cert" }

// AddListener implements dynamiccertificates.Notifier.
func (c *servingCert) AddListener(l dynamiccertificates.Listener) { c.cert.OnRenewal(l.Enqueue) }

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (c *servingCert) CurrentCertKeyContent() (cert, key []byte) {
	cert, key, _ = c.cert.PEM() // it was made once without an error
	return cert, key
}
