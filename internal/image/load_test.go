package image

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/image/build"
)

func TestLoad(t *testing.T) {
	type writer = func(io.Writer, ...*build.Built) error
	for name, tc := range map[string]struct {
		file   string
		write  writer
		layers build.Compression
	}{
		"docker-save":           {"nginx.tar", build.WriteDocker, build.None},
		"docker-save gzip":      {"nginx.tar.gz", build.WriteDocker, build.None},
		"docker-save zstd":      {"nginx.tar.zst", build.WriteDocker, build.None},
		"docker-save gz layers": {"nginx.tar", build.WriteDocker, build.Gzip},
		"OCI":                   {"nginx.tar", build.WriteOCI, build.Gzip},
		"OCI gzip":              {"nginx.tgz", build.WriteOCI, build.None},
		"OCI zstd":              {"nginx.tar.zst", build.WriteOCI, build.Zstd},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			nginx := madeFor(t, ocispec.Platform{}, tc.layers, "nginx", "docker.io/library/nginx:1.14", "docker.io/library/nginx:latest")
			other := madeFor(t, ocispec.Platform{}, tc.layers, "other", "podium.local/demo/other:1")
			if name == "docker-save" {
				nginx.Names = []string{"nginx:1.14", "nginx"} // as older dockers wrote them
			}
			imgs, err := s.Load(t.Context(), archiveFile(t, tc.file, tc.write, nginx, other))
			check(t, err)
			if len(imgs) != 2 || fmt.Sprint(imgs[0].Tags) != "[docker.io/library/nginx:1.14 docker.io/library/nginx:latest]" {
				t.Errorf("images %+v", imgs)
			}
			for _, ref := range []string{"nginx:1.14", "nginx", "docker.io/library/nginx:1.14", "docker.io/nginx:latest", nginx.Config.Digest.String()} {
				img, err := s.Find(t.Context(), ref)
				if err != nil || img.ID != nginx.Config.Digest.String() {
					t.Errorf("%s: %s, %v", ref, img.ID, err)
				}
			}
			img, err := s.Find(t.Context(), "podium.local/demo/other:1")
			check(t, err)
			mounts, err := s.Rootfs(t.Context(), img, "c", false)
			check(t, err)
			if got := readInside(t, mounts, "hello"); got != "other" {
				t.Errorf("inside: %q", got)
			}
		})
	}
}

func TestLoadOfATagAlone(t *testing.T) {
	s := open(t)
	img := made(t, "x")
	img.Target.Annotations = map[string]string{ocispec.AnnotationRefName: "1.0"}
	imgs, err := s.Load(t.Context(), archiveFile(t, "web.tar", build.WriteOCI, img))
	check(t, err)
	if fmt.Sprint(imgs[0].Tags) != "[docker.io/library/web:1.0]" {
		t.Errorf("tags %v", imgs[0].Tags)
	}
}

func TestLoadOfNoName(t *testing.T) {
	s := open(t)
	for _, write := range []func(io.Writer, ...*build.Built) error{build.WriteOCI, build.WriteDocker} {
		img := made(t, "x")
		imgs, err := s.Load(t.Context(), archiveFile(t, "web.tar", write, img))
		check(t, err)
		if len(imgs[0].Tags) != 0 {
			t.Errorf("tags %v", imgs[0].Tags)
		}
		if _, err := s.Find(t.Context(), img.Config.Digest.String()); err != nil {
			t.Error(err)
		}
	}
}

func TestBadArchivesLeaveTheStoreAsItWas(t *testing.T) {
	s := open(t)
	_, err := s.Load(t.Context(), archiveFile(t, "base.tar", build.WriteOCI, made(t, "base", "podium.local/base:1")))
	check(t, err)
	before := contents(t, s)
	good := made(t, "a second image", "podium.local/app:1")
	foreign := madeFor(t, ocispec.Platform{OS: "linux", Architecture: "s390x"}, build.Gzip, "foreign", "podium.local/foreign:1")
	onlyForeign, err := build.Index(foreign)
	check(t, err)
	raw := func(write func(io.Writer, ...*build.Built) error, imgs ...*build.Built) []byte {
		var buf bytes.Buffer
		check(t, write(&buf, imgs...))
		return buf.Bytes()
	}
	with := func(change func(*build.Built)) *build.Built {
		b := made(t, "a second image", "podium.local/app:1")
		change(b)
		return b
	}
	broken := func(d func(*build.Built) ocispec.Descriptor) *build.Built {
		return with(func(b *build.Built) {
			blob := bytes.Clone(b.Blobs[d(b).Digest])
			blob[len(blob)/2] ^= 0xff
			b.Blobs[d(b).Digest] = blob
		})
	}
	for name, tc := range map[string]struct {
		body  []byte
		words string
	}{
		"empty":                      {nil, "unrecognized image format"},
		"not a tar":                  {[]byte(strings.Repeat("this is not a tar archive\n", 100)), "invalid tar header"},
		"a tar of something else":    {raw(func(w io.Writer, _ ...*build.Built) error { return build.WriteDocker(w) }), "unrecognized image format"},
		"cut short":                  {raw(build.WriteOCI, good)[:3000], "cut short"},
		"docker-save, cut short":     {raw(build.WriteDocker, good)[:2048], "unrecognized image format"},
		"a layer that does not fit":  {raw(build.WriteOCI, broken(func(b *build.Built) ocispec.Descriptor { return b.Layers[1] })), "does not match its digest"},
		"a manifest that is damaged": {raw(build.WriteOCI, broken(func(b *build.Built) ocispec.Descriptor { return b.Target })), "does not match its digest"},
		"a layer that is missing":    {raw(build.WriteOCI, with(func(b *build.Built) { delete(b.Blobs, b.Layers[1].Digest) })), "lacks a part"},
		"docker-save, another layer than the configuration says": {
			raw(build.WriteDocker, with(func(b *build.Built) { b.Blobs[b.Layers[1].Digest] = b.Blobs[b.Layers[0].Digest] })), "wrong diff id",
		},
		"no image for this platform": {raw(build.WriteOCI, onlyForeign), "no match for platform"},
		"a bad name":                 {raw(build.WriteOCI, with(func(b *build.Built) { b.Names = []string{"Not A Name"} })), "invalid reference format"},
		"one good, one bad": {
			raw(build.WriteOCI, good, with(func(b *build.Built) { b.Names = []string{"Not A Name"} })), "invalid reference format",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.tar")
			check(t, os.WriteFile(path, tc.body, 0o600))
			imgs, err := s.Load(t.Context(), path)
			if err == nil || !strings.Contains(err.Error(), tc.words) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, error: %v", imgs, err)
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("not said to be the archive's fault: %v", err)
			}
			unchanged(t, s, before)
		})
	}
	if _, err := s.Load(t.Context(), "/no/such/file.tar"); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("no such file: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
		if os.IsNotExist(err) {
			return err
		}
	}
}

func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out)
	return out
}

// A disk that is full, at several moments: what is there stays, and the store goes on when there is room again.
func TestFullDiskLeavesTheStoreAsItWas(t *testing.T) {
	needRoot(t)
	small := t.TempDir()
	check(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	s := reopen(t, Config{Paths: pathsAt(filepath.Join(small, "root"))})
	_, err := s.Load(t.Context(), archiveFile(t, "base.tar", build.WriteOCI, made(t, "base", "podium.local/base:1")))
	check(t, err)
	before := contents(t, s)
	large, err := build.Build(build.Image{
		Names: []string{"podium.local/large:1"}, Compression: build.None,
		Layers: [][]build.File{{build.Plain("a", 0o644, noise(3<<20))}, {build.Plain("b", 0o644, noise(3<<20))}},
	})
	check(t, err)
	path := archiveFile(t, "large.tar", build.WriteOCI, large)
	for _, room := range []int64{9, 8, 7, 6, 5, 4, 3, 2, 1, 0} {
		t.Run(fmt.Sprintf("%d MB of room", room), func(t *testing.T) {
			filler := filepath.Join(small, "filler")
			var fs unix.Statfs_t
			check(t, unix.Statfs(small, &fs))
			free := int64(fs.Bavail) * fs.Bsize
			if free < room<<20 {
				t.Fatalf("only %d bytes are free", free)
			}
			check(t, os.WriteFile(filler, make([]byte, free-room<<20), 0o600))
			_, err := s.Load(t.Context(), path)
			if err == nil || !strings.Contains(err.Error(), "no space left on device") {
				t.Errorf("error: %v", err)
			}
			if errdefs.IsInvalidArgument(err) {
				t.Errorf("said to be the archive's fault: %v", err)
			}
			check(t, os.Remove(filler))
			unchanged(t, s, before)
		})
	}
}
