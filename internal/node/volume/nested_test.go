package volume

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Mounts below a volume lie in folders that stay when the volume's content changes; the content stays visible.
func TestNestedFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(nested []string, files payload) {
		t.Helper()
		if err := makeNested(dir, nested); err != nil {
			t.Fatal(err)
		}
		if err := writeAtomic(dir, files, time.Now(), noOwner); err != nil {
			t.Fatal(err)
		}
	}
	f := func(s string) file { return file{data: []byte(s), mode: 0o644} }
	nested := []string{"p/a", "p/b", "deep/down/x", "top"}
	write(nested, payload{"key": f("1"), "deep/one": f("2"), "deep/down/two": f("3"), "deep/other/three": f("4"), "deep/other/four": f("5")})
	for _, p := range []string{"p", "deep", "deep/down"} {
		if !isFolder(filepath.Join(dir, p)) {
			t.Errorf("%s is no folder", p)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "top")); err == nil {
		t.Error("the place of a mount was made before its container")
	}
	for p, want := range map[string]string{"key": "1", "deep/one": "2", "deep/down/two": "3", "deep/other/three": "4", "deep/other/four": "5"} {
		if got := content(t, filepath.Join(dir, p)); got != want {
			t.Errorf("%s is %q, want %q", p, got, want)
		}
	}
	before, err := os.Lstat(filepath.Join(dir, "deep/down"))
	if err != nil {
		t.Fatal(err)
	}
	write(nested, payload{"deep/one": f("new"), "deep/other/three": f("4")})
	after, err := os.Lstat(filepath.Join(dir, "deep/down"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the folder of a mount was made again (%v)", err)
	}
	if got := content(t, filepath.Join(dir, "deep/one")); got != "new" {
		t.Errorf("deep/one is %q", got)
	}
	for _, p := range []string{"key", "deep/down/two", "deep/other/four"} {
		if _, err := os.Lstat(filepath.Join(dir, p)); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
}
