package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"

	"podium.dev/podium/internal/image/build"
)

// loaded takes in an image and returns it.
func loaded(t testing.TB, s *Service, b *build.Built) Image {
	t.Helper()
	imgs, err := s.Load(t.Context(), archiveFile(t, "image.tar", build.WriteOCI, b))
	check(t, err)
	return imgs[0]
}

func TestRootfs(t *testing.T) {
	s := open(t)
	img := loaded(t, s, made(t, "hello", "podium.local/app:1"))
	one, err := s.Rootfs(t.Context(), img, "one", false)
	check(t, err)
	two, err := s.Rootfs(t.Context(), img, "two", false)
	check(t, err)
	check(t, mount.WithTempMount(t.Context(), one, func(root string) error {
		return os.WriteFile(filepath.Join(root, "hello"), []byte("changed"), 0o644)
	}))
	if got := readInside(t, one, "hello") + readInside(t, two, "hello"); got != "changedhello" {
		t.Errorf("inside: %q", got)
	}
	size, inodes, err := s.Usage(t.Context(), "one")
	if err != nil || size == 0 || inodes < 2 {
		t.Errorf("usage: %d, %d, %v", size, inodes, err)
	}
	again, err := s.Rootfs(t.Context(), img, "one", false)
	check(t, err)
	if fmt.Sprint(again) != fmt.Sprint(one) || readInside(t, again, "hello") != "changed" {
		t.Errorf("the second answer is %v, the first was %v", again, one)
	}
	if _, err := s.Rootfs(t.Context(), img, "one", true); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another kind under the same key: %v", err)
	}
	for range 2 {
		check(t, s.RemoveRootfs(t.Context(), "one"))
	}
	if _, _, err := s.Usage(t.Context(), "one"); !errdefs.IsNotFound(err) {
		t.Errorf("usage of one removed: %v", err)
	}
	eventually(t, "the writable layer is deleted", func() bool {
		left, err := os.ReadDir(s.rootfsDir(""))
		return err == nil && len(left) == 1
	})
	for _, bad := range []string{"", "..", "a/b", ".hidden"} {
		if _, err := s.Rootfs(t.Context(), img, bad, false); !errdefs.IsInvalidArgument(err) {
			t.Errorf("key %q: %v", bad, err)
		}
	}
	if _, err := s.Rootfs(t.Context(), Image{ID: "sha256:00"}, "three", false); !errdefs.IsNotFound(err) {
		t.Errorf("an image that is not here: %v", err)
	}
	left, err := os.ReadDir(s.rootfsDir(""))
	check(t, err)
	if len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestReadOnlyRootfs(t *testing.T) {
	s := open(t)
	single, err := build.Build(build.Image{Names: []string{"podium.local/single:1"}, Layers: [][]build.File{{build.Plain("hello", 0o644, []byte("hello"))}}})
	check(t, err)
	for name, b := range map[string]*build.Built{"two-layers": made(t, "hello", "podium.local/two:1"), "one-layer": single} {
		mounts, err := s.Rootfs(t.Context(), loaded(t, s, b), name, true)
		check(t, err)
		check(t, mount.WithTempMount(t.Context(), mounts, func(root string) error {
			if raw, err := os.ReadFile(filepath.Join(root, "hello")); err != nil || string(raw) != "hello" {
				t.Errorf("%s: %q, %v", name, raw, err)
			}
			if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644); err == nil {
				t.Errorf("%s: could be written to", name)
			}
			return nil
		}))
	}
}

func TestRootfsOfNoLayer(t *testing.T) {
	s := open(t)
	empty, err := build.Build(build.Image{Names: []string{"podium.local/empty:1"}})
	check(t, err)
	mounts, err := s.Rootfs(t.Context(), loaded(t, s, empty), "c", false)
	check(t, err)
	check(t, mount.WithTempMount(t.Context(), mounts, func(root string) error {
		return os.WriteFile(filepath.Join(root, "new"), nil, 0o644)
	}))
}

func TestRootfsSurvivesARestart(t *testing.T) {
	s := open(t)
	img := loaded(t, s, made(t, "hello", "podium.local/app:1"))
	before, err := s.Rootfs(t.Context(), img, "c", false)
	check(t, err)
	check(t, os.MkdirAll(filepath.Join(s.rootfsDir("half-made"), upperDir), 0o755))
	check(t, s.Close())
	s = reopen(t, s.cfg)
	found, err := s.Find(t.Context(), "podium.local/app:1")
	check(t, err)
	if found.ID != img.ID || found.ChainID != img.ChainID || found.Config.Cmd[0] != "/hello" || found.Size != img.Size || !found.Created.Equal(img.Created) {
		t.Errorf("after a restart %+v, before %+v", found, img)
	}
	after, err := s.Rootfs(t.Context(), found, "c", false)
	check(t, err)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("after a restart %v, before %v", after, before)
	}
	eventually(t, "the half-made one is gone", func() bool {
		left, err := os.ReadDir(s.rootfsDir(""))
		return err == nil && len(left) == 1
	})
}

func TestRemoveOfAnImageInUse(t *testing.T) {
	s := open(t)
	empty := contents(t, s)
	img := loaded(t, s, made(t, "hello", "podium.local/app:1", "podium.local/app:2"))
	mounts, err := s.Rootfs(t.Context(), img, "c", false)
	check(t, err)
	check(t, s.Remove(t.Context(), "podium.local/app:1"))
	for _, ref := range []string{"podium.local/app:1", "podium.local/app:2", img.ID} {
		if _, err := s.Find(t.Context(), ref); !errdefs.IsNotFound(err) {
			t.Errorf("%s is still found: %v", ref, err)
		}
	}
	if err := s.Remove(t.Context(), "podium.local/app:1"); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Rootfs(t.Context(), img, "late", false); err != nil {
		t.Errorf("while its layers are here, a known image can be used: %v", err)
	}
	check(t, s.RemoveRootfs(t.Context(), "late"))
	check(t, s.collectNow(s.ctx))
	if got := readInside(t, mounts, "hello"); got != "hello" {
		t.Errorf("inside, after the removal: %q", got)
	}
	check(t, s.Close())
	s = reopen(t, s.cfg)
	check(t, s.collectNow(s.ctx))
	if got := readInside(t, mounts, "hello"); got != "hello" {
		t.Errorf("inside, after a restart: %q", got)
	}
	check(t, s.RemoveRootfs(t.Context(), "c"))
	unchanged(t, s, empty)
	if _, err := s.Rootfs(t.Context(), img, "c", false); !errdefs.IsNotFound(err) {
		t.Errorf("after all is gone: %v", err)
	}
}

func TestUnfinishedWorkOfACrashIsPutAway(t *testing.T) {
	s := open(t)
	loaded(t, s, made(t, "base", "podium.local/base:1"))
	before := contents(t, s)
	// As a daemon killed in the middle leaves it: a lease, a blob and half a one.
	ctx, _, err := s.hold(s.ctx)
	check(t, err)
	w, err := s.content.Writer(ctx, writerRef("half"))
	check(t, err)
	_, err = w.Write([]byte("half"))
	check(t, err)
	check(t, w.Close())
	w, err = s.content.Writer(ctx, writerRef("whole"))
	check(t, err)
	_, err = w.Write([]byte("whole"))
	check(t, err)
	check(t, w.Commit(ctx, 5, ""))
	check(t, os.MkdirAll(filepath.Join(s.cfg.Paths.ImageStore, "snapshots", "snapshots", "new-123"), 0o700))
	check(t, s.Close())
	s = reopen(t, s.cfg)
	unchanged(t, s, before)
}

func TestStoreIsOpenOnce(t *testing.T) {
	s := open(t)
	if _, err := Open(t.Context(), s.cfg); err == nil || !bytes.Contains([]byte(err.Error()), []byte("another process has it open")) {
		t.Errorf("opened twice: %v", err)
	}
}

func TestExport(t *testing.T) {
	s := open(t)
	img := loaded(t, s, made(t, "hello", "podium.local/app:1", "podium.local/app:2"))
	var out bytes.Buffer
	check(t, s.Export(t.Context(), "podium.local/app:1", &out))
	path := filepath.Join(t.TempDir(), "exported.tar")
	check(t, os.WriteFile(path, out.Bytes(), 0o600))
	other := reopen(t, Config{Paths: pathsAt(filepath.Join(t.TempDir(), "other"))})
	imgs, err := other.Load(t.Context(), path)
	check(t, err)
	if len(imgs) != 1 || imgs[0].ID != img.ID || !slices.Equal(imgs[0].Tags, img.Tags) {
		t.Errorf("exported %+v, got back %+v", img, imgs)
	}
	if err := s.Export(t.Context(), "nope", &out); !errdefs.IsNotFound(err) {
		t.Errorf("not here: %v", err)
	}
}

func TestFsInfo(t *testing.T) {
	s := open(t)
	empty, err := s.FsInfo(t.Context())
	check(t, err)
	loaded(t, s, made(t, "hello", "podium.local/app:1"))
	full, err := s.FsInfo(t.Context())
	check(t, err)
	if empty.Bytes != 0 || full.Bytes <= 0 || full.Inodes < 5 || full.Path != s.cfg.Paths.ImageStore {
		t.Errorf("empty %+v, full %+v", empty, full)
	}
}

func BenchmarkRootfs(b *testing.B) {
	s := open(b)
	img := loaded(b, s, made(b, "hello", "podium.local/app:1"))
	for i := 0; b.Loop(); i++ {
		key := fmt.Sprint("c", i)
		_, err := s.Rootfs(b.Context(), img, key, false)
		check(b, err)
		check(b, s.RemoveRootfs(b.Context(), key))
	}
}
