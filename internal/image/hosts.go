package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/pelletier/go-toml/v2"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// userAgent is how the store introduces itself to registries.
const userAgent = "podium/1.37"

// resolver reaches the registries, or in their place those that hosts.toml files name, with the given credentials.
// The files are read again for each pull.
func (s *Service) resolver(ctx context.Context, auth *runtimeapi.AuthConfig) remotes.Resolver {
	options := config.HostOptions{
		HostDir:     config.HostDirFromRoot(s.cfg.Paths.Registries),
		Credentials: func(host string) (string, string, error) { return credentials(auth, host) },
	}
	options.UpdateClient = func(c *http.Client) error {
		c.Transport = &bounded{next: c.Transport}
		if token := auth.GetRegistryToken(); token != "" {
			c.Transport = &bearer{next: c.Transport, token: token, auth: auth}
		}
		return nil
	}
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   config.ConfigureHosts(ctx, options),
		Headers: http.Header{"User-Agent": []string{userAgent}},
	})
}

// checkSettings says what is wrong with the hosts.toml file of a registry, if there is one: the library passes over a
// file it cannot read, and would go to another registry than the one that was meant.
func (s *Service) checkSettings(registry string) error {
	dir, err := config.HostDirFromRoot(s.cfg.Paths.Registries)(registry)
	if err != nil {
		return nil
	}
	path := filepath.Join(dir, "hosts.toml")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = toml.Unmarshal(raw, new(map[string]any))
	}
	var where *toml.DecodeError
	if errors.As(err, &where) {
		row, column := where.Position()
		return invalid(fmt.Errorf("registry settings %s, line %d, column %d: %w", path, row, column, err))
	}
	if err != nil {
		return fmt.Errorf("registry settings %s: %w", path, err)
	}
	return nil
}

// credentials reads what CRI hands over: user and password, both in one "auth" field, or an identity token, which has
// no user. Credentials for another server are none. An error wraps errdefs.ErrInvalidArgument.
func credentials(auth *runtimeapi.AuthConfig, host string) (user, secret string, err error) {
	ok, err := isFor(auth, host)
	if err != nil || !ok {
		return "", "", err
	}
	switch {
	case auth.Username != "":
		return auth.Username, auth.Password, nil
	case auth.IdentityToken != "":
		return "", auth.IdentityToken, nil
	case auth.Auth == "":
		return "", "", nil
	}
	raw, err := base64.StdEncoding.DecodeString(auth.Auth)
	if err != nil {
		return "", "", invalid(fmt.Errorf("the credentials for %s are not base64: %w", host, err))
	}
	user, secret, found := strings.Cut(string(raw), ":")
	if !found {
		return "", "", invalid(fmt.Errorf("the credentials for %s are not of the form user:password", host))
	}
	return user, strings.Trim(secret, "\x00"), nil
}

// isFor reports whether credentials may be sent to a host: those that name no server may.
func isFor(auth *runtimeapi.AuthConfig, host string) (bool, error) {
	if auth == nil {
		return false, nil
	}
	if auth.ServerAddress == "" {
		return true, nil
	}
	server := auth.ServerAddress
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return false, invalid(fmt.Errorf("the credentials' server address %q: %w", auth.ServerAddress, err))
	}
	// Docker Hub is known by the address of its first API and reached by another.
	if u.Host == "index.docker.io" || u.Host == "docker.io" {
		return host == "registry-1.docker.io" || host == "index.docker.io" || host == "docker.io", nil
	}
	return u.Host == host, nil
}

// bearer sends a registry token, to the server it is for and to no other that a registry may redirect to.
type bearer struct {
	next  http.RoundTripper
	token string
	auth  *runtimeapi.AuthConfig
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	ok, err := isFor(b.auth, r.URL.Host)
	if err != nil {
		return nil, err
	}
	if ok && r.Response == nil && r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}
