package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/test/registry"
)

func TestPull(t *testing.T) {
	s, r := open(t), registry.Start(t)
	built := made(t, "hello")
	ref := r.Put("demo/hello", "1", built)
	var seen []Progress
	img, err := s.Pull(t.Context(), ref, nil, func(p Progress) { seen = append(seen, p) })
	check(t, err)
	if img.ID != built.Config.Digest.String() {
		t.Errorf("ID %s, want the configuration's digest %s", img.ID, built.Config.Digest)
	}
	digestRef := r.Host() + "/demo/hello@" + built.Target.Digest.String()
	if fmt.Sprint(img.Tags) != "["+ref+"]" || fmt.Sprint(img.Digests) != "["+digestRef+"]" {
		t.Errorf("names %v, %v", img.Tags, img.Digests)
	}
	if img.Config.Cmd[0] != "/hello" || img.Config.User != "1000:1000" {
		t.Errorf("configuration %v", img.Config)
	}
	last := seen[len(seen)-1]
	if last.Ref != ref || last.Layers != 2 || last.LayersDone != 2 || last.Bytes == 0 || last.BytesDone != last.Bytes {
		t.Errorf("progress ended with %+v", last)
	}
	for _, name := range []string{ref, digestRef, img.ID, strings.TrimPrefix(img.ID, "sha256:"), img.ID[7:19]} {
		found, err := s.Find(t.Context(), name)
		if err != nil || found.ID != img.ID {
			t.Errorf("by %s: %v, %v", name, found.ID, err)
		}
	}
	mounts, err := s.Rootfs(t.Context(), img, "c1", false)
	check(t, err)
	if got := readInside(t, mounts, "hello") + readInside(t, mounts, "etc/base"); got != "hello"+"the base of all\n" {
		t.Errorf("inside: %q", got)
	}
	// Again: one request for the manifest, none for what is here.
	blobs := len(r.Requests("/blobs/"))
	again, err := s.Pull(t.Context(), ref, nil, nil)
	check(t, err)
	if again.ID != img.ID || len(r.Requests("/blobs/")) != blobs {
		t.Errorf("pulled again: %s; %v", again.ID, r.Requests("/blobs/"))
	}
	// By digest alone.
	byDigest, err := s.Pull(t.Context(), digestRef, nil, nil)
	check(t, err)
	if byDigest.ID != img.ID {
		t.Errorf("by digest: %s", byDigest.ID)
	}
}

func TestPullSharesLayers(t *testing.T) {
	s, r := open(t), registry.Start(t)
	one, two := made(t, "one"), made(t, "two")
	_, err := s.Pull(t.Context(), r.Put("one", "1", one), nil, nil)
	check(t, err)
	_, err = s.Pull(t.Context(), r.Put("two", "1", two), nil, nil)
	check(t, err)
	if got := r.Requests("/blobs/" + one.Layers[0].Digest.String()); len(got) != 1 {
		t.Errorf("the shared layer was fetched %d times", len(got))
	}
}

func TestPullMovesATag(t *testing.T) {
	s, r := open(t), registry.Start(t)
	old, err := s.Pull(t.Context(), r.Put("app", "latest", made(t, "old")), nil, nil)
	check(t, err)
	ref := r.Put("app", "latest", made(t, "new"))
	now, err := s.Pull(t.Context(), ref, nil, nil)
	check(t, err)
	if found, err := s.Find(t.Context(), ref); err != nil || found.ID != now.ID || now.ID == old.ID {
		t.Errorf("the tag leads to %s, %v", found.ID, err)
	}
	found, err := s.Find(t.Context(), old.ID)
	if err != nil || len(found.Tags) != 0 || len(found.Digests) != 1 {
		t.Errorf("the old image: %v %v, %v", found.Tags, found.Digests, err)
	}
}

func TestPullForThisPlatform(t *testing.T) {
	s, r := open(t), registry.Start(t)
	other := madeFor(t, ocispec.Platform{OS: "linux", Architecture: "s390x"}, build.Gzip, "other")
	mine := madeFor(t, ocispec.Platform{}, build.Zstd, "mine")
	both, err := build.Index(other, mine)
	check(t, err)
	img, err := s.Pull(t.Context(), r.Put("multi", "1", both), nil, nil)
	check(t, err)
	if img.ID != mine.Config.Digest.String() || len(r.Requests(other.Layers[1].Digest.String())) != 0 {
		t.Errorf("got %s, requests %v", img.ID, r.Requests(""))
	}
	before := contents(t, s)
	alone, err := build.Index(other)
	check(t, err)
	if _, err = s.Pull(t.Context(), r.Put("foreign", "1", alone), nil, nil); err == nil || !strings.Contains(err.Error(), "no match for platform in manifest") || Code(err) != codes.NotFound {
		t.Errorf("no image for this platform: %v", err)
	}
	unchanged(t, s, before)
}

func TestPullWithCredentials(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte(registry.User + ":" + registry.Password))
	for name, tc := range map[string]struct {
		kind registry.Auth
		auth *runtimeapi.AuthConfig
		ok   bool
	}{
		"basic":                {registry.Basic, &runtimeapi.AuthConfig{Username: registry.User, Password: registry.Password}, true},
		"basic in one field":   {registry.Basic, &runtimeapi.AuthConfig{Auth: basic}, true},
		"basic none":           {registry.Basic, nil, false},
		"basic wrong":          {registry.Basic, &runtimeapi.AuthConfig{Username: registry.User, Password: "x"}, false},
		"basic another server": {registry.Basic, &runtimeapi.AuthConfig{Auth: basic, ServerAddress: "https://example.com"}, false},
		"bearer":               {registry.Bearer, &runtimeapi.AuthConfig{Username: registry.User, Password: registry.Password}, true},
		"bearer none":          {registry.Bearer, nil, false},
		"bearer wrong":         {registry.Bearer, &runtimeapi.AuthConfig{Username: "x", Password: "x"}, false},
		"registry token":       {registry.Bearer, &runtimeapi.AuthConfig{RegistryToken: "token-for-secret%2Fapp"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := open(t), registry.Start(t)
			r.Auth = tc.kind
			ref := r.Put("secret/app", "1", made(t, "secret"))
			if tc.auth != nil && tc.ok && tc.auth.RegistryToken == "" {
				tc.auth.ServerAddress = r.Host()
			}
			before := contents(t, s)
			_, err := s.Pull(t.Context(), ref, tc.auth, nil)
			if tc.ok {
				check(t, err)
				return
			}
			if err == nil || Code(err) != codes.Unauthenticated && Code(err) != codes.PermissionDenied {
				t.Errorf("%v (%s)", err, Code(err))
			}
			unchanged(t, s, before)
		})
	}
}

func TestPullThatFailsLeavesTheStoreAsItWas(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(*registry.Server, *build.Built) (tag string)
		words   string
		code    codes.Code
	}{
		"not found": {
			func(*registry.Server, *build.Built) string { return "nope" },
			"not found", codes.NotFound,
		},
		"a layer that does not match its digest": {
			func(r *registry.Server, b *build.Built) string { r.Break(b.Layers[1]); return "1" },
			"unexpected commit digest", codes.FailedPrecondition,
		},
		"a configuration that does not match its digest": {
			func(r *registry.Server, b *build.Built) string { r.Break(b.Config); return "1" },
			"unexpected commit digest", codes.FailedPrecondition,
		},
		"a layer that is not there": {
			func(r *registry.Server, b *build.Built) string { r.Lose(b.Layers[1]); return "1" },
			"not found", codes.NotFound,
		},
		"a server that fails": {
			func(r *registry.Server, _ *build.Built) string {
				r.Fail = func(*http.Request) int { return 500 }
				return "1"
			},
			"500 Internal Server Error", codes.Unavailable,
		},
		"forbidden": {
			func(r *registry.Server, _ *build.Built) string {
				r.Fail = func(*http.Request) int { return 403 }
				return "1"
			},
			"403 Forbidden", codes.PermissionDenied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := open(t), registry.Start(t)
			_, err := s.Pull(t.Context(), r.Put("base", "1", made(t, "a first image")), nil, nil)
			check(t, err)
			before := contents(t, s)
			built := made(t, "a second image")
			r.Put("app", "1", built)
			ref := r.Host() + "/app:" + tc.arrange(r, built)
			_, err = s.Pull(t.Context(), ref, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tc.words) || !strings.HasPrefix(err.Error(), fmt.Sprintf("failed to pull and unpack image %q: ", ref)) {
				t.Errorf("error: %v", err)
			}
			if got := Code(err); got != tc.code {
				t.Errorf("code %s, want %s (%v)", got, tc.code, err)
			}
			unchanged(t, s, before)
		})
	}
}

func TestPullWords(t *testing.T) {
	s := open(t)
	for ref, want := range map[string]struct {
		words string
		code  codes.Code
	}{
		"Bad Image!":                   {`failed to parse image reference "Bad Image!": invalid reference format`, codes.InvalidArgument},
		"nowhere.invalid/app:1":        {"no such host", codes.Unavailable},
		"127.0.0.1:1/app:1":            {"connection refused", codes.Unavailable},
		"docker.io/UP":                 {"repository name (library/UP) must be lowercase", codes.InvalidArgument},
		"app@sha256:1234":              {"invalid reference format", codes.InvalidArgument},
		strings.Repeat("a", 300) + ":": {"invalid reference format", codes.InvalidArgument},
	} {
		_, err := s.Pull(t.Context(), ref, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want.words) {
			t.Errorf("%s: %v", ref, err)
		}
		if Code(err) != want.code {
			t.Errorf("%s: code %s, want %s (%v)", ref, Code(err), want.code, err)
		}
	}
}

func TestSamePullTwiceIsOneTransfer(t *testing.T) {
	s, r := open(t), registry.Start(t)
	r.Gate = make(chan struct{})
	built, err := build.Build(build.Image{Compression: build.None, Layers: [][]build.File{{build.Plain("large", 0o644, []byte(strings.Repeat("large\n", 1000)))}}})
	check(t, err)
	ref := r.Put("app", "1", built)
	layer := "/blobs/" + built.Layers[0].Digest.String()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := s.Pull(ctx, ref, nil, nil); gone <- err }()
	eventually(t, "the transfer runs", func() bool { return len(r.Requests(layer)) == 1 })
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := s.Pull(t.Context(), ref, nil, nil); err != nil {
				t.Error(err)
			}
		}()
	}
	eventually(t, "all wait for it", func() bool {
		s.flights.mu.Lock()
		defer s.flights.mu.Unlock()
		for _, f := range s.flights.all {
			f.mu.Lock()
			n := f.waiting
			f.mu.Unlock()
			return n == 5
		}
		return false
	})
	cancel() // who began it goes; the others get it
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that went: %v", err)
	}
	close(r.Gate)
	wg.Wait()
	if got := r.Requests(layer); len(got) != 1 {
		t.Errorf("%d transfers", len(got))
	}
}

func TestPullThatIsGivenUpLeavesTheStoreAsItWas(t *testing.T) {
	s, r := open(t), registry.Start(t)
	r.Gate = make(chan struct{})
	defer close(r.Gate)
	built, err := build.Build(build.Image{Compression: build.None, Layers: [][]build.File{{build.Plain("large", 0o644, []byte(strings.Repeat("large\n", 1000)))}}})
	check(t, err)
	ref := r.Put("app", "1", built)
	before := contents(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := s.Pull(ctx, ref, nil, nil); done <- err }()
	eventually(t, "the transfer runs", func() bool { return len(r.Requests("/blobs/"+built.Layers[0].Digest.String())) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	unchanged(t, s, before)
}

func TestPullByMirror(t *testing.T) {
	s, mirror := open(t), registry.Start(t)
	mirror.Put("library/nginx", "1.14", made(t, "nginx"))
	dir := filepath.Join(s.cfg.Paths.Registries, "docker.io")
	check(t, os.MkdirAll(dir, 0o755))
	toml := fmt.Sprintf("server = \"https://registry.invalid\"\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", mirror.URL())
	check(t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0o644))
	img, err := s.Pull(t.Context(), "nginx:1.14", nil, nil)
	check(t, err)
	if fmt.Sprint(img.Tags) != "[docker.io/library/nginx:1.14]" {
		t.Errorf("names %v", img.Tags)
	}
	for _, name := range []string{"nginx:1.14", "docker.io/nginx:1.14", "library/nginx:1.14", "docker.io/library/nginx:1.14"} {
		if _, err := s.Find(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Find(t.Context(), "nginx"); !errdefs.IsNotFound(err) {
		t.Errorf("another tag: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte("server = \"https://x\"\n[host.\n"), 0o644))
	if _, err := s.Pull(t.Context(), "nginx:1.15", nil, nil); err == nil || !strings.Contains(err.Error(), "hosts.toml, line 2, column") || Code(err) != codes.InvalidArgument {
		t.Errorf("a broken hosts.toml: %v", err)
	}
}

func TestPullOverTLS(t *testing.T) {
	s, r := open(t), registry.StartTLS(t)
	// A registry on this machine may have any certificate, as everywhere.
	_, err := s.Pull(t.Context(), r.Put("app", "1", made(t, "tls")), nil, nil)
	check(t, err)
}

func TestCredentials(t *testing.T) {
	for name, tc := range map[string]struct {
		auth         *runtimeapi.AuthConfig
		host         string
		user, secret string
		bad          bool
	}{
		"none":              {nil, "a.io", "", "", false},
		"any server":        {&runtimeapi.AuthConfig{Username: "u", Password: "p"}, "a.io", "u", "p", false},
		"this server":       {&runtimeapi.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://a.io/v1/"}, "a.io", "u", "p", false},
		"this server, bare": {&runtimeapi.AuthConfig{Username: "u", Password: "p", ServerAddress: "a.io"}, "a.io", "u", "p", false},
		"another server":    {&runtimeapi.AuthConfig{Username: "u", Password: "p", ServerAddress: "b.io"}, "a.io", "", "", false},
		"Docker Hub":        {&runtimeapi.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://index.docker.io/v1/"}, "registry-1.docker.io", "u", "p", false},
		"identity token":    {&runtimeapi.AuthConfig{IdentityToken: "t"}, "a.io", "", "t", false},
		"padded":            {&runtimeapi.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("u:p\x00\x00"))}, "a.io", "u", "p", false},
		"not base64":        {&runtimeapi.AuthConfig{Auth: "?"}, "a.io", "", "", true},
		"no colon":          {&runtimeapi.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("up"))}, "a.io", "", "", true},
	} {
		user, secret, err := credentials(tc.auth, tc.host)
		if user != tc.user || secret != tc.secret || (err != nil) != tc.bad {
			t.Errorf("%s: %q, %q, %v", name, user, secret, err)
		}
	}
}
