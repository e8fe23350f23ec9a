package pki

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func open(t *testing.T, dir string, c *clocktesting.FakeClock) *Authority {
	t.Helper()
	a, err := Open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpenTwiceIsTheSameAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	c := clocktesting.NewFakeClock(time.Now())
	first, second := open(t, dir, c), open(t, dir, c)
	if string(first.Bundle()) != string(second.Bundle()) {
		t.Error("the CA changed")
	}
	if !first.TokenKeys()[0].Equal(second.TokenKeys()[0]) {
		t.Error("the service-account key changed")
	}
	for file, want := range map[string]os.FileMode{"": 0o700, "ca.key": 0o600, "sa.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", file, got, want)
		}
	}
}

func TestCARollsOverAndKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	c := clocktesting.NewFakeClock(time.Now())
	old := open(t, dir, c)
	leaf, err := old.Client(Admin).Get()
	if err != nil {
		t.Fatal(err)
	}
	c.Step(caLife - caRenew + time.Hour)
	young := open(t, dir, c)
	certs, err := parseCerts(young.Bundle())
	if err != nil || len(certs) != 2 {
		t.Fatalf("the bundle has %d certificates (%v), want the new and the old", len(certs), err)
	}
	opts := x509.VerifyOptions{Roots: young.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: leaf.Leaf.NotBefore.Add(time.Hour)}
	if _, err := leaf.Leaf.Verify(opts); err != nil {
		t.Errorf("a certificate of the old CA is refused: %v", err)
	}
}

func TestCertificateIsRenewedInTime(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Now())
	a := open(t, t.TempDir(), c)
	cert := a.Client(Node("n1"))
	first, err := cert.Get()
	if err != nil {
		t.Fatal(err)
	}
	if first.Leaf.Subject.CommonName != "system:node:n1" || first.Leaf.Subject.Organization[0] != "system:nodes" {
		t.Errorf("subject = %v", first.Leaf.Subject)
	}
	renewed := make(chan struct{}, 1)
	stop := cert.OnRenewal(func() { renewed <- struct{}{} })
	defer stop()
	c.Step(leafLife / 2)
	if again, _ := cert.Get(); again != first {
		t.Error("renewed too early")
	}
	c.Step(leafLife / 4)
	if again, _ := cert.Get(); again == first {
		t.Error("not renewed")
	}
	select {
	case <-renewed:
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
}

func TestClientsAndServersTrustEachOther(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Now())
	a := open(t, t.TempDir(), c)
	var user string
	cfg, err := a.ServerTLS(ServerName{Subject: "test", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user = r.TLS.PeerCertificates[0].Subject.CommonName
	})}
	go srv.Serve(listener)
	defer srv.Close()
	url := "https://" + listener.Addr().String()

	transport, err := a.Transport(Scheduler)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	if _, err := client.Get(url); err != nil {
		t.Fatal(err)
	}
	if user != "system:kube-scheduler" {
		t.Errorf("the server saw %q", user)
	}
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool()}}}
	if _, err := stranger.Get(url); err == nil {
		t.Error("a client with no certificate was served")
	}
}

func TestKeepKubeconfig(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Now())
	a := open(t, t.TempDir(), c)
	file := filepath.Join(t.TempDir(), "admin.kubeconfig")
	read := func() string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	keep := func(url string) time.Time {
		t.Helper()
		next, err := a.KeepKubeconfig(file, Admin, url)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	next := keep("https://127.0.0.1:6443")
	first := read()
	if !next.After(c.Now()) {
		t.Errorf("renewal at %v is not in the future", next)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	keep("https://127.0.0.1:6443")
	if read() != first {
		t.Error("a kubeconfig that still serves was rewritten")
	}
	keep("https://127.0.0.1:7443")
	second := read()
	if second == first {
		t.Error("a new URL did not reach the kubeconfig")
	}
	c.SetTime(next.Add(time.Hour))
	keep("https://127.0.0.1:7443")
	if read() == second {
		t.Error("an old kubeconfig was not renewed")
	}
}
