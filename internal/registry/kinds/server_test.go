package kinds_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apiserver"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/store"
)

// api is a client of an API server of the test's own that serves all kinds.
type api struct {
	client *http.Client
	url    string
}

// answer is a response of the server.
type answer struct {
	code     int
	body     map[string]any
	warnings []string
}

func serve(t *testing.T) *api {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	authority, err := pki.Open(filepath.Join(dir, "pki"), clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Start(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "run", "etcd.sock")})
	if err != nil {
		t.Fatal(err)
	}
	server, err := apiserver.New(ctx, apiserver.Config{
		Bind: "127.0.0.1:0", Advertise: net.IPv4(192, 0, 2, 1), PKI: authority, Store: s, Groups: kinds.Groups(),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready after a minute")
	}
	cfg, err := authority.ClientConfig(pki.Admin, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &api{client: client, url: server.URL()}
}

const (
	asJSON  = "application/json"
	asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"
)

// do sends an object, or no body if it is nil, and requests the given response format.
func (a *api) do(t *testing.T, method, path string, object any, accept string) answer {
	t.Helper()
	return a.send(t, method, path, "", object, accept)
}

// send is do with the type of a patch: merge-patch, ….
func (a *api) send(t *testing.T, method, path, patch string, object any, accept string) answer {
	t.Helper()
	var body io.Reader
	if object != nil {
		body = bytes.NewReader(text(t, object))
	}
	r, err := http.NewRequest(method, a.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Content-Type", asJSON)
	switch patch {
	case "":
	case "apply-patch":
		r.Header.Set("Content-Type", "application/apply-patch+yaml") // JSON is valid YAML
	default:
		r.Header.Set("Content-Type", "application/"+patch+"+json")
	}
	got, err := a.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	out := answer{code: got.StatusCode}
	if err := json.NewDecoder(got.Body).Decode(&out.body); err != nil {
		t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	said, faults := utilnet.ParseWarningHeaders(got.Header["Warning"])
	if len(faults) > 0 {
		t.Fatalf("%s %s: warnings: %v", method, path, faults)
	}
	for _, w := range said {
		out.warnings = append(out.warnings, w.Text)
	}
	slices.Sort(out.warnings)
	return out
}

func text(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
