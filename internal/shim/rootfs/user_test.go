package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podium.dev/podium/internal/shim/bundle"
)

func TestNamed(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "0": false, "1000": false, "1000:1000": false, "nginx": true, "1000:staff": true, "app:0": true, "7z": true,
	} {
		if got := Named(bundle.User{Name: name}); got != want {
			t.Errorf("Named(%q) = %v", name, got)
		}
	}
}

func TestUser(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/:\nalice:x:1000:1000::/:\n", "etc/group": "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := User(root, bundle.User{Name: "alice", Groups: []uint32{77}})
	if err != nil || u.UID != 1000 || u.GID != 1000 || len(u.AdditionalGids) != 3 {
		t.Errorf("alice is %+v, %v", u, err)
	}
	for _, name := range []string{"bob", "alice:nobodys", "bob:0"} {
		if _, err := User(root, bundle.User{Name: name}); err == nil || !strings.HasPrefix(err.Error(), "unable to find user "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if u, err := User(root, bundle.User{Name: "4711"}); err != nil || u.UID != 4711 || u.GID != 0 {
		t.Errorf("4711 is %+v, %v", u, err)
	}
}

func TestSubPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out": "/etc", "file": ""} {
		if to == "" {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := SubPath(dir, "data/deep"); err != nil || got != filepath.Join(dir, "data/deep") {
		t.Errorf("data/deep is %q, %v", got, err)
	}
	for _, path := range []string{"missing", "out", "file", "../.."} {
		if got, err := SubPath(dir, path); err == nil && got != dir {
			t.Errorf("%s is %q", path, got)
		}
	}
}
