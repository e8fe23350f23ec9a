package safeopen

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is no regular file is refused at once: the test would hang where an open waits for a writer.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	path := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(dir, "secret"), []byte("host"), 0o600), os.WriteFile(path("file"), []byte("content"), 0o600),
		unix.Mkfifo(path("fifo"), 0o666), os.Mkdir(path("dir"), 0o755), os.Symlink("file", path("link")),
		os.Symlink("../secret", path("out")), os.Symlink(dir, path("up")), os.Symlink("fifo", path("tofifo")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	opens := map[string]func(string) (*os.File, error){
		"In":        func(name string) (*os.File, error) { return In(root, name) },
		"File":      func(name string) (*os.File, error) { return File(path(name)) },
		"Following": func(name string) (*os.File, error) { return Following(path(name)) },
	}
	for _, c := range []struct {
		open, name, want string
	}{
		{"In", "file", "content"}, {"In", "link", "content"}, {"In", "fifo", "!"}, {"In", "tofifo", "!"}, {"In", "dir", "!"},
		{"In", "out", "!"}, {"In", "up/secret", "!"}, {"In", "../secret", "!"}, {"In", "none", "!"},
		{"File", "file", "content"}, {"File", "link", "!"}, {"File", "fifo", "!"}, {"File", "dir", "!"}, {"File", "out", "!"},
		{"Following", "link", "content"}, {"Following", "tofifo", "!"}, {"Following", "fifo", "!"}, {"Following", "dir", "!"},
	} {
		got, err := Read(100)(opens[c.open](c.name))
		if (err != nil) != (c.want == "!") || err == nil && string(got) != c.want {
			t.Errorf("%s(%q) = %q, %v; want %q", c.open, c.name, got, err, c.want)
		}
		if strings.Contains(c.name, "fifo") && !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s(%q): %v, want %v", c.open, c.name, err, ErrNotRegular)
		}
	}
	if _, err := File("/dev/null"); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a device: %v", err)
	}
}

func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(10)(File(path)); err != nil || string(got) != "0123456789" {
		t.Errorf("Read of 10 = %q, %v", got, err)
	}
	if _, err := Read(9)(File(path)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Read of 9: %v, want %v", err, ErrTooLarge)
	}
	if got, err := Tail(3)(File(path)); err != nil || string(got) != "789" {
		t.Errorf("Tail(3) = %q, %v", got, err)
	}
	if got, err := Tail(30)(File(path)); err != nil || string(got) != "0123456789" {
		t.Errorf("Tail(30) = %q, %v", got, err)
	}
}
