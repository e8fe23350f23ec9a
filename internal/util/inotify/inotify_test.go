package inotify

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A folder that is not there yet is waited for in the one above; in it, a file is told of when it is closed.
func TestFollow(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "folder")
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	follow := func(want string, moves bool) {
		t.Helper()
		if moved, err := w.Follow(dir); err != nil || moved != moves || w.Dir() != want {
			t.Errorf("it follows %s (moved %v, %v), want %s", w.Dir(), moved, err, want)
		}
	}
	follow(top, true)
	follow(top, false)
	changes := w.Changes(t.Context(), func(err error) { t.Error(err) })
	await := func(name string, mask uint32) {
		t.Helper()
		for {
			select {
			case list := <-changes:
				for _, c := range list {
					if c.Name == name && c.Mask&mask != 0 {
						return
					}
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("nothing was told of %s", name)
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	await("folder", unix.IN_CREATE)
	follow(dir, true)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	await("file", unix.IN_CLOSE_WRITE)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	await("", unix.IN_DELETE_SELF)
	follow(top, true)
}
