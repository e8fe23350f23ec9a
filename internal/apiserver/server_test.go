package apiserver

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/store"
)

// testCluster is a store and an API server in a folder of their own.
type testCluster struct {
	t      testing.TB
	dir    string
	pki    *pki.Authority
	server *Server
	stop   func()
}

// start starts a testCluster in a folder and stops it at the end of the test, or when stop is called.
func start(t testing.TB, dir string) *testCluster {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &testCluster{t: t, dir: dir}
	var err error
	if c.pki, err = pki.Open(filepath.Join(dir, "pki"), clock.RealClock{}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Start(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "run", "etcd.sock")})
	if err != nil {
		t.Fatal(err)
	}
	c.server, err = New(ctx, Config{
		Bind: "127.0.0.1:0", Advertise: net.IPv4(192, 0, 2, 1), PKI: c.pki, Store: s, Groups: kinds.Groups(),
	})
	if err != nil {
		_ = s.Close()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.server.Run(ctx) }()
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(c.stop)
	select {
	case <-c.server.Ready():
	case err := <-done:
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready after a minute")
	}
	return c
}

// as returns a configuration to act as somebody.
func (c *testCluster) as(who pki.Identity) *rest.Config {
	c.t.Helper()
	cfg, err := c.pki.ClientConfig(who, c.server.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// client returns a client that acts as somebody.
func (c *testCluster) client(who pki.Identity) kubernetes.Interface {
	c.t.Helper()
	client, err := kubernetes.NewForConfig(c.as(who))
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// eventually waits until f is content.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(context.Background(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		last = f()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

// BenchmarkStart is what a start costs, from nothing to ready.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		start(b, b.TempDir()).stop()
	}
}
