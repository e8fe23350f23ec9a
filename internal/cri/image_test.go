package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/test/registry"
)

// imageStore opens a store in a folder of the test's, watching its images folder.
func imageStore(t *testing.T) (*image.Service, paths.Paths) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	p := paths.For(filepath.Join(t.TempDir(), "root"))
	s, err := image.Open(t.Context(), image.Config{Paths: p, PinnedRefs: []string{"podium.local/pinned:1"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(s.Close()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return s, p
}

func builtImage(t *testing.T, user string, names ...string) *build.Built {
	t.Helper()
	b, err := build.Build(build.Image{
		Names: names, Config: ocispec.ImageConfig{User: user, Cmd: []string{"/hello"}},
		Layers: [][]build.File{{build.Plain("hello", 0o755, []byte("hello "+user))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImageService(t *testing.T) {
	store, p := imageStore(t)
	images := LocalImages(store)
	r := registry.Start(t)
	ref := r.Put("demo/app", "1", builtImage(t, "1000:1000"))
	spec := &runtimeapi.ImageSpec{Image: ref}
	statusOf := func(ref string) *runtimeapi.Image {
		t.Helper()
		resp, err := images.ImageStatus(t.Context(), &runtimeapi.ImageSpec{Image: ref}, false)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Image
	}
	if got := statusOf(ref); got != nil {
		t.Errorf("before the pull: %v", got)
	}
	var told []PullProgress
	ctx := WithPullProgress(t.Context(), func(p PullProgress) { told = append(told, p) })
	id, err := images.PullImage(ctx, spec, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 || told[len(told)-1].LayersDone != 1 {
		t.Errorf("progress: %v", told)
	}
	got := statusOf(ref)
	if got.Id != id || got.RepoTags[0] != ref || !strings.HasPrefix(got.RepoDigests[0], r.Host()+"/demo/app@sha256:") || got.Uid.GetValue() != 1000 || got.Username != "" || got.Size == 0 || got.Pinned {
		t.Errorf("status %v", got)
	}
	verbose, err := images.ImageStatus(t.Context(), spec, true)
	if err != nil || !strings.Contains(verbose.Info["info"], `"chainID":"sha256:`) || !strings.Contains(verbose.Info["info"], `"Cmd":["/hello"]`) {
		t.Errorf("verbose: %v, %v", verbose.GetInfo(), err)
	}

	var archive bytes.Buffer
	if err := build.WriteDocker(&archive, builtImage(t, "nobody", "podium.local/pinned:1")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Images, "pinned.tar"), archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); statusOf("podium.local/pinned:1") == nil; {
		if time.Now().After(end) {
			t.Fatal("the archive is not taken in within 20 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := statusOf("podium.local/pinned:1"); got.Username != "nobody" || got.Uid != nil || !got.Pinned {
		t.Errorf("status %v", got)
	}
	listed(t, images, nil, 2)
	listed(t, images, &runtimeapi.ImageFilter{Image: spec}, 1)
	listed(t, images, &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: "none"}}, 0)
	fs, err := images.ImageFsInfo(t.Context())
	if err != nil || fs.ImageFilesystems[0].UsedBytes.GetValue() == 0 || fs.ImageFilesystems[0].FsId.Mountpoint != p.ImageStore {
		t.Errorf("file systems: %v, %v", fs, err)
	}
	for range 2 {
		if err := images.RemoveImage(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if got := statusOf(id); got != nil {
		t.Errorf("after the removal: %v", got)
	}
}

func listed(t *testing.T, images internalapi.ImageManagerService, filter *runtimeapi.ImageFilter, want int) {
	t.Helper()
	all, err := images.ListImages(t.Context(), filter)
	if err != nil || len(all) != want {
		t.Errorf("%v: %d images, %v; want %d", filter, len(all), err, want)
	}
}

func TestImageErrors(t *testing.T) {
	store, _ := imageStore(t)
	images := LocalImages(store)
	r := registry.Start(t)
	for ref, want := range map[string]struct {
		code  codes.Code
		words string
	}{
		r.Host() + "/no/such:1": {codes.NotFound, fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", r.Host()+"/no/such:1", r.Host()+"/no/such:1", r.Host()+"/no/such:1")},
		"a:b:c":                 {codes.InvalidArgument, `failed to parse image reference "a:b:c": invalid reference format`},
	} {
		_, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: ref}, nil, nil)
		if err == nil || err.Error() != want.words {
			t.Errorf("%s: %v", ref, err)
		}
		if s, ok := status.FromError(err); !ok || s.Code() != want.code || s.Message() != want.words {
			t.Errorf("%s: status %v", ref, s)
		}
	}
}

func TestImageUser(t *testing.T) {
	for user, want := range map[string]struct {
		uid  *runtimeapi.Int64Value
		name string
	}{
		"": {}, "0": {uid: &runtimeapi.Int64Value{}}, "1000:100": {uid: &runtimeapi.Int64Value{Value: 1000}},
		"nobody": {name: "nobody"}, "nobody:nogroup": {name: "nobody"}, ":100": {},
	} {
		uid, name := imageUser(user)
		if uid.GetValue() != want.uid.GetValue() || (uid == nil) != (want.uid == nil) || name != want.name {
			t.Errorf("%q: %v, %q", user, uid, name)
		}
	}
}
