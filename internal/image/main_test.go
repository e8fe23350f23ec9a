package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/internal/paths"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a store in a folder of the test's.
func open(t testing.TB) *Service {
	t.Helper()
	needRoot(t)
	return reopen(t, Config{Paths: paths.For(filepath.Join(t.TempDir(), "root"))})
}

// reopen opens a store where one was.
func reopen(t testing.TB, cfg Config) *Service {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// made builds an image of two layers, with the text in the upper one.
func made(t testing.TB, text string, names ...string) *build.Built {
	t.Helper()
	return madeFor(t, ocispec.Platform{}, build.Gzip, text, names...)
}

func madeFor(t testing.TB, p ocispec.Platform, c build.Compression, text string, names ...string) *build.Built {
	t.Helper()
	img, err := build.Build(build.Image{
		Names: names, Platform: p, Compression: c,
		Config: ocispec.ImageConfig{Cmd: []string{"/hello"}, User: "1000:1000", Env: []string{"A=b"}},
		Layers: [][]build.File{
			{build.Dir("etc", 0o755), build.Plain("etc/base", 0o644, []byte("the base of all\n"))},
			{build.Plain("hello", 0o755, []byte(text))},
		},
	})
	check(t, err)
	return img
}

// archiveFile writes images into an archive in a new folder.
func archiveFile(t testing.TB, name string, write func(io.Writer, ...*build.Built) error, all ...*build.Built) string {
	t.Helper()
	var buf bytes.Buffer
	check(t, write(&buf, all...))
	raw := buf.Bytes()
	switch {
	case strings.HasSuffix(name, "gz"):
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, err := w.Write(raw)
		check(t, err)
		check(t, w.Close())
		raw = z.Bytes()
	case strings.HasSuffix(name, "zst"):
		w, err := zstd.NewWriter(nil)
		check(t, err)
		raw = w.EncodeAll(raw, nil)
	}
	path := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(path, raw, 0o600))
	return path
}

// contents is all that the store holds, for comparing before and after.
func contents(t testing.TB, s *Service) []string {
	t.Helper()
	check(t, s.collectNow(s.ctx))
	var out []string
	check(t, s.content.Walk(s.ctx, func(i content.Info) error {
		out = append(out, "blob "+i.Digest.String())
		return nil
	}))
	ingests, err := s.content.ListStatuses(s.ctx)
	check(t, err)
	for _, i := range ingests {
		out = append(out, "unfinished "+i.Ref)
	}
	check(t, s.snapshots.Walk(s.ctx, func(_ context.Context, i snapshots.Info) error {
		out = append(out, "layer "+i.Name)
		return nil
	}))
	all, err := s.images.List(s.ctx)
	check(t, err)
	for _, i := range all {
		out = append(out, "image "+i.Name)
	}
	held, err := s.leases.List(s.ctx)
	check(t, err)
	for _, l := range held {
		out = append(out, "lease "+l.ID)
	}
	dirs, err := os.ReadDir(filepath.Join(s.cfg.Paths.ImageStore, "snapshots", "snapshots"))
	check(t, err)
	for _, d := range dirs {
		out = append(out, "folder "+d.Name())
	}
	blobs, err := filepath.Glob(filepath.Join(s.cfg.Paths.ImageStore, "content", "ingest", "*"))
	check(t, err)
	out = append(out, blobs...)
	slices.Sort(out)
	return out
}

// unchanged fails when the store holds other things than before.
func unchanged(t testing.TB, s *Service, before []string) {
	t.Helper()
	if after := contents(t, s); !slices.Equal(after, before) {
		t.Errorf("the store holds\n%s\nand held\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// readInside mounts a root file system, reads a file of it, and unmounts.
func readInside(t testing.TB, mounts []mount.Mount, name string) string {
	t.Helper()
	var raw []byte
	check(t, mount.WithTempMount(t.Context(), mounts, func(root string) (err error) {
		raw, err = os.ReadFile(filepath.Join(root, name))
		return err
	}))
	return string(raw)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 20 s: %s", what)
}
