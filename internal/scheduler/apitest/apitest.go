// Package apitest gives the tests of a package an API server: Podium's own, started once in the test's
// process on an empty store, or the one that an environment variable names, so that the same tests can be
// held against another.
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

// Variable names a kubeconfig of an API server without controllers and scheduler of its own, to be used
// instead.
const Variable = "PODIUM_TEST_KUBECONFIG"

// shared is the server of this process.
var shared struct {
	sync.Mutex
	config *rest.Config
	stop   func() error
}

// Main runs a package's tests and then ends the server, if one was started. Call it from TestMain.
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

// Config answers with an admin's way to the API server, which it starts when it is the first to ask.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.config == nil {
		var err error
		if path := os.Getenv(Variable); path != "" {
			shared.config, err = clientcmd.BuildConfigFromFlags("", path)
		} else {
			shared.config, shared.stop, err = start()
		}
		if err != nil {
			t.Fatal(err)
		}
		shared.config.QPS = -1
	}
	return rest.CopyConfig(shared.config)
}

// start starts a server; stop ends it and removes what it wrote.
func start() (config *rest.Config, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "apitest-")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ending := []func() error{func() error { return os.RemoveAll(dir) }}
	stop = func() error {
		cancel()
		var errs []error
		for i := len(ending) - 1; i >= 0; i-- {
			errs = append(errs, ending[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	authority, err := pki.Open(filepath.Join(dir, "pki"), clock.RealClock{})
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Start(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "etcd.sock")})
	if err != nil {
		return nil, nil, err
	}
	ending = append(ending, db.Close)
	server, err := apiserver.New(ctx, apiserver.Config{Bind: "127.0.0.1:0", PKI: authority, Store: db, Kinds: kinds.All()})
	if err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	select {
	case err := <-done:
		return nil, nil, fmt.Errorf("the API server ended before it was ready: %w", err)
	case <-server.Ready():
	}
	ending = append(ending, func() error { return <-done })
	config, err = authority.ClientConfig(pki.Admin, server.URL())
	return config, stop, err
}
