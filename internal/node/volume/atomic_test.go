package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func noOwner(string) error { return nil }

func TestWriteAtomic(t *testing.T) {
	dir := t.TempDir()
	write := func(files payload) string {
		t.Helper()
		if err := writeAtomic(dir, files, time.Now(), noOwner); err != nil {
			t.Fatal(err)
		}
		target, err := os.Readlink(filepath.Join(dir, dataLink))
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	f := func(s string) file { return file{data: []byte(s), mode: 0o640} }
	first := write(payload{"a": f("1"), "x/y/z": f("2"), "x/w": f("3")})
	if got := content(t, dir+"/x/y/z"); got != "2" {
		t.Errorf("x/y/z is %q", got)
	}
	if got := mode(t, dir+"/a"); got != 0o640 {
		t.Errorf("mode %v", got)
	}
	if again := write(payload{"a": f("1"), "x/y/z": f("2"), "x/w": f("3")}); again != first {
		t.Error("the same content was written again")
	}
	// A link that went away comes back without a new folder.
	if err := os.Remove(dir + "/a"); err != nil {
		t.Fatal(err)
	}
	// What a cut-off run left does not stand in the way.
	if err := os.Symlink("nowhere", dir+"/..data_tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/..2000_01_01_00_00_00.1", 0o755); err != nil {
		t.Fatal(err)
	}
	if again := write(payload{"a": f("1"), "x/y/z": f("2"), "x/w": f("3")}); again != first {
		t.Error("the same content was written again")
	}
	if got := content(t, dir+"/a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	if second := write(payload{"b": f("1")}); second == first {
		t.Error("new content is in the old folder")
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 3 { // ..2…, ..data, b
		t.Errorf("left: %v", names)
	}
}

func TestCleanPaths(t *testing.T) {
	for p, want := range map[string]string{
		"":                         `invalid path: must not be empty: ""`,
		"/a":                       "invalid path: must be relative path: /a",
		"a/../b":                   "invalid path: must not contain '..': a/../b",
		"..a":                      "invalid path: must not start with '..': ..a",
		strings.Repeat("a", 256):   "invalid path: filenames must be less than or equal to 255 characters",
		strings.Repeat("a/", 2100): "invalid path: must be less than or equal to 4096 characters",
		"a/..b":                    "",
		".hidden":                  "",
	} {
		_, err := cleanPaths(payload{p: file{}})
		if got := errText(err); got != want {
			t.Errorf("%.20s: got %s, want %s", p, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
