package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Normalize gives a reference its full form as Kubernetes' runtimes do: "nginx" is
// "docker.io/library/nginx:latest". Of one with tag and digest the digest counts. The error wraps
// errdefs.ErrInvalidArgument.
func Normalize(ref string) (string, error) {
	named, err := normalize(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

func normalize(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, invalid(fmt.Errorf("failed to parse image reference %q: %w", ref, err))
	}
	return named, nil
}

// names are the names under which an image that was asked for as named is kept: its tag and its digest.
func names(named reference.Named, target digest.Digest) []string {
	var out []string
	if tagged, ok := named.(reference.NamedTagged); ok {
		out = append(out, tagged.String())
	}
	return append(out, reference.TrimNamed(named).Name()+"@"+target.String())
}

// isTag reports whether a kept name is one with a tag, and isDigest whether it is one with a digest; a bare "sha256:…",
// under which every image is kept too, is neither.
func isTag(name string) bool { return !strings.Contains(name, "@") && !isID(name) }

func isDigest(name string) bool { return strings.Contains(name, "@") }

func isID(name string) bool { return digest.Digest(name).Validate() == nil }
