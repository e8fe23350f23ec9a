package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/internal/paths"
)

func pathsAt(root string) paths.Paths { return paths.For(root) }

func writerRef(ref string) content.WriterOpt { return content.WithRef(ref) }

// put puts an archive into the images folder in one step.
func put(t testing.TB, s *Service, archive, name string) string {
	t.Helper()
	check(t, os.MkdirAll(s.cfg.Paths.Images, 0o755))
	raw, err := os.ReadFile(archive)
	check(t, err)
	path := filepath.Join(s.cfg.Paths.Images, name)
	check(t, os.WriteFile(path+".part", raw, 0o600))
	check(t, os.Rename(path+".part", path))
	return path
}

// watch watches the images folder until the test, or the store, ends.
func watch(t testing.TB, s *Service) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

func wait(t testing.TB, s *Service) {
	t.Helper()
	select {
	case <-s.Settled():
	case <-time.After(20 * time.Second):
		t.Fatal("the archives of the start are not done within 20 s")
	}
}

func TestWatchTakesInArchives(t *testing.T) {
	s := open(t)
	app := archiveFile(t, "app.tar", build.WriteDocker, made(t, "app", "podium.local/app:1"))
	zst := archiveFile(t, "zst.tar.zst", build.WriteOCI, made(t, "zst", "podium.local/zst:1"))
	late := archiveFile(t, "late.tar.gz", build.WriteOCI, made(t, "late", "podium.local/late:1"))
	put(t, s, app, "app.tar")
	put(t, s, zst, "zst.tar.zst")
	put(t, s, app, ".hidden.tar")
	bad := filepath.Join(s.cfg.Paths.Images, "bad.tar")
	check(t, os.WriteFile(bad, []byte("bad"), 0o600))
	check(t, os.Mkdir(filepath.Join(s.cfg.Paths.Images, "folder.tar"), 0o755))
	watch(t, s)
	if _, err := s.Await(t.Context(), "podium.local/app:1"); err != nil {
		t.Errorf("an image on its way: %v", err)
	}
	if _, err := s.Await(t.Context(), "podium.local/none:1"); !errdefs.IsNotFound(err) {
		t.Errorf("an image that is not: %v", err)
	}
	wait(t, s)
	for _, ref := range []string{"podium.local/app:1", "podium.local/zst:1"} {
		if _, err := s.Find(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	// Dropped later: moved there, written there, and the bad one repaired in place.
	put(t, s, late, "late.tar.gz")
	eventually(t, "the archive moved there is taken in", func() bool { _, err := s.Find(t.Context(), "podium.local/late:1"); return err == nil })
	raw, err := os.ReadFile(archiveFile(t, "repaired.tar", build.WriteOCI, made(t, "repaired", "podium.local/repaired:1")))
	check(t, err)
	f, err := os.OpenFile(bad, os.O_WRONLY|os.O_TRUNC, 0)
	check(t, err)
	_, err = f.Write(raw[:1000])
	check(t, err)
	if _, err := s.Find(t.Context(), "podium.local/repaired:1"); err == nil {
		t.Error("half an archive was taken in")
	}
	_, err = f.Write(raw[1000:])
	check(t, err)
	check(t, f.Close())
	eventually(t, "the archive written there is taken in", func() bool { _, err := s.Find(t.Context(), "podium.local/repaired:1"); return err == nil })
}

func TestWatchKnowsAgainWhatItTook(t *testing.T) {
	s := open(t)
	put(t, s, archiveFile(t, "app.tar", build.WriteOCI, made(t, "app", "podium.local/app:1")), "app.tar")
	put(t, s, archiveFile(t, "gone.tar", build.WriteOCI, made(t, "gone", "podium.local/gone:1")), "gone.tar")
	watch(t, s)
	wait(t, s)
	info, err := os.Stat(filepath.Join(s.cfg.Paths.Images, "app.tar"))
	check(t, err)
	if !s.isTaken("app.tar", info) {
		t.Error("what was just taken in is not known")
	}
	check(t, s.Remove(t.Context(), "podium.local/gone:1"))
	check(t, s.Close())

	s = reopen(t, s.cfg)
	if !s.isTaken("app.tar", info) {
		t.Error("after a restart it is not known")
	}
	watch(t, s)
	wait(t, s)
	if _, err := s.Find(t.Context(), "podium.local/gone:1"); err != nil {
		t.Errorf("an image that was removed, whose archive is still there: %v", err)
	}
	// Changed in place: another image of the same name.
	changed := made(t, "changed", "podium.local/app:1")
	put(t, s, archiveFile(t, "app.tar", build.WriteOCI, changed), "app.tar")
	eventually(t, "the changed archive is taken in", func() bool {
		img, err := s.Find(t.Context(), "podium.local/app:1")
		return err == nil && img.ID == changed.Config.Digest.String()
	})
}

func TestWatchLeavesWhatIsBeingWritten(t *testing.T) {
	s := open(t)
	path := put(t, s, archiveFile(t, "app.tar", build.WriteOCI, made(t, "app", "podium.local/app:1")), "app.tar")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	defer f.Close()
	if !isBeingWritten(path) {
		t.Skip("this file system grants no leases")
	}
	watch(t, s)
	wait(t, s)
	if _, err := s.Find(t.Context(), "podium.local/app:1"); err == nil {
		t.Error("taken in while it was being written")
	}
	check(t, f.Close())
	eventually(t, "it is taken in when its writer is done", func() bool { _, err := s.Find(t.Context(), "podium.local/app:1"); return err == nil })
}

func TestPullFindsWhatIsInTheFolder(t *testing.T) {
	s := open(t)
	put(t, s, archiveFile(t, "app.tar", build.WriteOCI, made(t, "app", "podium.local/app:1")), "app.tar")
	watch(t, s)
	wait(t, s)
	check(t, s.Remove(t.Context(), "podium.local/app:1"))
	img, err := s.Pull(t.Context(), "podium.local/app:1", nil, nil)
	check(t, err)
	if img.Tags[0] != "podium.local/app:1" {
		t.Errorf("got %+v", img)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Await(ctx, "podium.local/app:1"); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestInotifyNames(t *testing.T) {
	event := func(mask byte, name string) []byte {
		padded := append([]byte(name), make([]byte, 16-len(name))...)
		return append([]byte{1, 0, 0, 0, mask, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0}, padded...)
	}
	names, lost, gone := inotifyNames(append(event(8, "a.tar"), event(128, "b.tar")...))
	if len(names) != 2 || names[0] != "a.tar" || names[1] != "b.tar" || lost || gone {
		t.Errorf("%v, %v, %v", names, lost, gone)
	}
}
