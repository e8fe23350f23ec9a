// Package registry is a small OCI distribution registry for tests. It serves images made from files on
// localhost, and can misbehave like a bad registry.
package registry

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/image/build"
)

// Auth is how a registry authenticates its clients.
type Auth int

// The supported ways.
const (
	Anonymous Auth = iota
	Basic
	Bearer
)

// User and Password are the credentials for Basic and Bearer.
const (
	User     = "pullman"
	Password = "s3cret"
)

// Server is a registry. Its fields are set before the first request.
type Server struct {
	// Auth is the required authentication.
	Auth Auth
	// Fail, if set, may reply instead of the registry by returning a status other than 0.
	Fail func(r *http.Request) (status int)
	// Gate, if set, holds back every blob after the first kilobyte until it is closed.
	Gate chan struct{}

	server *httptest.Server

	mu       sync.Mutex
	blobs    map[digest.Digest][]byte
	types    map[digest.Digest]string
	tags     map[string]digest.Digest // "repository:tag"
	broken   map[digest.Digest]bool
	requests []string
}

// Start starts a registry over plain HTTP that stops when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

// StartTLS starts a registry over HTTPS with an unknown certificate, that stops when the test ends.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func newServer() *Server {
	return &Server{blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{}, tags: map[string]digest.Digest{}, broken: map[digest.Digest]bool{}}
}

// Host returns the registry's host and port, with which references start.
func (s *Server) Host() string { return s.server.Listener.Addr().(*net.TCPAddr).String() }

// URL returns the registry's URL.
func (s *Server) URL() string { return s.server.URL }

// Put adds an image as repository:tag, and returns the full reference.
func (s *Server) Put(repository, tag string, img *build.Built) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, blob := range img.Blobs {
		s.blobs[d] = blob
		var head struct {
			MediaType string `json:"mediaType"`
		}
		if json.Unmarshal(blob, &head) == nil && head.MediaType != "" {
			s.types[d] = head.MediaType
		}
	}
	s.tags[repository+":"+tag] = img.Target.Digest
	return fmt.Sprintf("%s/%s:%s", s.Host(), repository, tag)
}

// Break makes the registry serve other bytes of the same length for a blob.
func (s *Server) Break(d ocispec.Descriptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[d.Digest] = true
}

// Lose makes the registry forget a blob.
func (s *Server) Lose(d ocispec.Descriptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, d.Digest)
}

// Requests returns the requests whose path contains part, as "METHOD PATH".
func (s *Server) Requests(part string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.requests {
		if strings.Contains(r, part) {
			out = append(out, r)
		}
	}
	return out
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.Fail != nil {
		if status := s.Fail(r); status != 0 {
			refuse(w, status, "UNKNOWN", http.StatusText(status))
			return
		}
	}
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		refuse(w, http.StatusNotFound, "UNKNOWN", "no such page")
		return
	}
	repository, kind, name := split(path)
	if !s.allowed(w, r, repository) {
		return
	}
	switch kind {
	case "manifests":
		s.manifest(w, r, repository, name)
	case "blobs":
		s.blob(w, r, name)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// split splits a path such as "a/b/manifests/latest".
func split(path string) (repository, kind, name string) {
	for _, kind := range []string{"manifests", "blobs"} {
		if before, after, ok := strings.Cut(path, "/"+kind+"/"); ok {
			return before, kind, after
		}
	}
	return path, "", ""
}

func (s *Server) allowed(w http.ResponseWriter, r *http.Request, repository string) bool {
	switch s.Auth {
	case Basic:
		if user, password, ok := r.BasicAuth(); ok && user == User && password == Password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	case Bearer:
		if r.Header.Get("Authorization") == "Bearer "+tokenFor(repository) {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:%s:pull"`, s.URL(), repository))
	default:
		return true
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// tokenFor returns the token for a repository.
func tokenFor(repository string) string { return "token-for-" + url.QueryEscape(repository) }

// Token returns a bearer token that the registry accepts for a repository.
func (s *Server) Token(repository string) string { return tokenFor(repository) }

// token issues a token for the password, by GET with basic authentication or by POST of a form.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	scope := r.URL.Query().Get("scope")
	if r.Method == http.MethodPost {
		user, password, scope = r.PostFormValue("username"), r.PostFormValue("password"), r.PostFormValue("scope")
	}
	if user != User || password != Password {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	repository := strings.TrimSuffix(strings.TrimPrefix(scope, "repository:"), ":pull")
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":%q,"access_token":%q}`, tokenFor(repository), tokenFor(repository))
}

func (s *Server) manifest(w http.ResponseWriter, r *http.Request, repository, name string) {
	s.mu.Lock()
	d, err := digest.Parse(name)
	if err != nil {
		d = s.tags[repository+":"+name]
	}
	body, ok := s.blobs[d]
	mediaType := s.types[d]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	s.send(w, r, d, body)
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	body, ok := s.blobs[digest.Digest(name)]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	s.send(w, r, digest.Digest(name), body)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, d digest.Digest, body []byte) {
	s.mu.Lock()
	broken := s.broken[d]
	s.mu.Unlock()
	if broken {
		body = append([]byte{}, body...)
		body[len(body)/2] ^= 0xff
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	first := min(len(body), 1024)
	if s.Gate == nil {
		first = len(body)
	}
	_, _ = w.Write(body[:first])
	if first == len(body) {
		return
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	select {
	case <-s.Gate:
		_, _ = w.Write(body[first:])
	case <-r.Context().Done():
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
