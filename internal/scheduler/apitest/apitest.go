// Package apitest gives the tests of a package an API server: Podium's own, started once in the test's process
// on an empty store, or the server that an environment variable names, so that the same tests can run against
// another implementation.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apiserver"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/store"
)

// Variable is the environment variable that names a kubeconfig of an API server to use instead. That server
// must run without controllers and without a scheduler.
const Variable = "PODIUM_TEST_KUBECONFIG"

// shared is the server of this process.
var shared struct {
	sync.Mutex
	config *rest.Config
	stop   func() error
}

// Main runs a package's tests, ends the server if one was started, and exits. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.stop != nil {
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Config returns an admin's client configuration for the API server. The first call starts the server.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.config == nil {
		var err error
		if path := os.Getenv(Variable); path != "" {
			shared.config, err = clientcmd.BuildConfigFromFlags("", path)
		} else {
			var server *Server
			if server, err = Start(); err == nil {
				shared.config, shared.stop = server.Config, server.Stop
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		shared.config.QPS = -1
	}
	return rest.CopyConfig(shared.config)
}

// Server is an API server and its store in this process.
type Server struct {
	// Config is an admin's client configuration, Kubeconfig the same as a file's content for another process.
	Config     *rest.Config
	Kubeconfig []byte

	ending []func() error
}

// Stop ends the server and removes what it wrote.
func (s *Server) Stop() error {
	var errs []error
	for i := len(s.ending) - 1; i >= 0; i-- {
		errs = append(errs, s.ending[i]())
	}
	return errors.Join(errs...)
}

// Start starts a server on an empty store.
func Start() (*Server, error) {
	s := &Server{}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) start() error {
	dir, err := os.MkdirTemp("", "apitest-")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.ending = append(s.ending, func() error { cancel(); return os.RemoveAll(dir) })
	authority, err := pki.Open(filepath.Join(dir, "pki"), clock.RealClock{})
	if err != nil {
		return err
	}
	db, err := store.Start(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "etcd.sock")})
	if err != nil {
		return err
	}
	s.ending = append(s.ending, db.Close)
	server, err := apiserver.New(ctx, apiserver.Config{Bind: "127.0.0.1:0", PKI: authority, Store: db, Groups: kinds.Groups()})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	select {
	case err := <-done:
		return fmt.Errorf("the API server ended before it was ready: %w", err)
	case <-server.Ready():
	}
	s.ending = append(s.ending, func() error { cancel(); return <-done })
	if s.Kubeconfig, err = authority.Kubeconfig(pki.Admin, server.URL()); err != nil {
		return err
	}
	s.Config, err = authority.ClientConfig(pki.Admin, server.URL())
	return err
}
