package pull

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// credential is one way to be let in by a registry.
type credential struct {
	username, password string
	// secret is the Secret it is from, nil for one that every Pod of the node may use.
	secret *kubeletconfig.ImagePullSecret
}

func (c *credential) auth() *runtimeapi.AuthConfig {
	return &runtimeapi.AuthConfig{Username: c.username, Password: c.password}
}

// hash tells credentials apart without keeping them.
func (c *credential) hash() string {
	sum := sha256.Sum256([]byte(c.username + "\x00" + c.password))
	return hex.EncodeToString(sum[:])
}

// credentials are those of one Pod for one image, read when first asked for.
type credentials struct {
	puller *Puller
	pod    *v1.Pod
	image  string

	read  bool
	found []credential
	err   error
}

// missingSecrets are imagePullSecrets that could not be read; the pull is tried without them.
type missingSecrets struct{ names []string }

func (m *missingSecrets) Error() string {
	return fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.",
		strings.Join(m.names, ", "))
}

// list returns the credentials that fit the image, those for the longest path first. An error goes
// with the credentials that could be read.
func (c *credentials) list(ctx context.Context) ([]credential, error) {
	if c.read {
		return c.found, c.err
	}
	c.read = true
	target, err := repository(c.image)
	if err != nil {
		c.err = err
		return nil, err
	}
	var ring keyring
	var missing []string
	for _, ref := range c.pod.Spec.ImagePullSecrets {
		if ref.Name == "" || c.puller.cfg.Secret == nil {
			continue
		}
		secret, err := c.puller.cfg.Secret(ctx, c.pod, ref.Name)
		if err != nil || !ring.addSecret(secret) {
			missing = append(missing, ref.Name)
		}
	}
	if err := ring.addFile(c.puller.cfg.NodeCredentials); err != nil {
		c.err = err
	}
	if len(missing) > 0 {
		c.err = errors.Join(c.err, &missingSecrets{names: missing})
	}
	c.found = ring.lookup(target)
	return c.found, c.err
}

// keyring holds credentials by the registry, with an optional path, that they are for.
type keyring []keyringEntry

type keyringEntry struct {
	host, path string
	credential credential
}

// dockerConfig is the part of Docker's configuration file that holds credentials.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// addSecret takes in the credentials of a Secret, and reports whether it is of a kind that has any.
func (k *keyring) addSecret(secret *v1.Secret) bool {
	var cfg dockerConfig
	switch secret.Type {
	case v1.SecretTypeDockerConfigJson:
		if json.Unmarshal(secret.Data[v1.DockerConfigJsonKey], &cfg) != nil {
			return false
		}
	case v1.SecretTypeDockercfg:
		if json.Unmarshal(secret.Data[v1.DockerConfigKey], &cfg.Auths) != nil {
			return false
		}
	default:
		return false
	}
	k.add(cfg, secret)
	return true
}

// addFile takes in the credentials of a file, which need not be there.
func (k *keyring) addFile(path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the node's registry credentials: %w", err)
	}
	var cfg dockerConfig
	if err := json.Unmarshal(data, &cfg); err != nil {
		return fmt.Errorf("read the node's registry credentials in %s, which must be a Docker config.json: %w", path, err)
	}
	k.add(cfg, nil)
	return nil
}

func (k *keyring) add(cfg dockerConfig, from *v1.Secret) {
	for registry, auth := range cfg.Auths {
		c := credential{username: auth.Username, password: auth.Password}
		if auth.Auth != "" {
			decoded, err := base64.StdEncoding.DecodeString(auth.Auth)
			if err != nil {
				continue
			}
			c.username, c.password, _ = strings.Cut(string(decoded), ":")
		}
		if from != nil {
			c.secret = &kubeletconfig.ImagePullSecret{
				UID: string(from.UID), Namespace: from.Namespace, Name: from.Name, CredentialHash: c.hash(),
			}
		}
		if !strings.Contains(registry, "://") {
			registry = "https://" + registry
		}
		u, err := url.Parse(registry)
		if err != nil {
			continue
		}
		path := strings.TrimSuffix(u.Path, "/")
		for _, version := range []string{"/v1", "/v2"} {
			if path == version || strings.HasPrefix(path, version+"/") {
				path = strings.TrimPrefix(path, version)
			}
		}
		*k = append(*k, keyringEntry{host: u.Host, path: path, credential: c})
	}
}

// lookup returns the credentials for a repository, those for the longest path first.
func (k keyring) lookup(repository string) []credential {
	host, path, _ := strings.Cut(repository, "/")
	path = "/" + path
	var fit []keyringEntry
	for _, e := range k {
		if hostFits(e.host, host) && strings.HasPrefix(path, e.path) {
			fit = append(fit, e)
		}
	}
	slices.SortStableFunc(fit, func(a, b keyringEntry) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(b.host, a.host))
	})
	out := make([]credential, len(fit))
	for i := range fit {
		out[i] = fit[i].credential
	}
	return out
}

// hostFits reports whether a registry is meant by a host, in which "*" stands for a part of the name. All
// names of Docker's own registry are one.
func hostFits(pattern, host string) bool {
	if host == "docker.io" && (pattern == "index.docker.io" || pattern == "registry-1.docker.io") {
		return true
	}
	want, wantPort, _ := strings.Cut(pattern, ":")
	have, havePort, _ := strings.Cut(host, ":")
	wantParts, haveParts := strings.Split(want, "."), strings.Split(have, ".")
	if wantPort != havePort || len(wantParts) != len(haveParts) {
		return false
	}
	for i := range wantParts {
		if ok, err := filepath.Match(wantParts[i], haveParts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
