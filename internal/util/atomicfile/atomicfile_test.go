package atomicfile

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestWrite(t *testing.T) {
	for _, d := range []Durability{Crash, PowerCut} {
		path := filepath.Join(t.TempDir(), "file")
		for _, content := range []string{"first", "", "a longer third one"} {
			if err := Write(path, []byte(content), 0o640, d); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != content {
				t.Errorf("read %q, %v; want %q", got, err, content)
			}
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, %v; want 0640", info.Mode(), err)
		}
		only(t, filepath.Dir(path), "file")
	}
}

// A failed write leaves the old content and no other file.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(path, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x"), 0o600, Crash); err == nil {
		t.Error("a folder was replaced")
	}
	only(t, dir, "folder")
	if err := Write(filepath.Join(dir, "none", "file"), nil, 0o600, Crash); !os.IsNotExist(err) {
		t.Errorf("without a folder: %v", err)
	}
}

// Concurrent writers never leave a mixture of their contents.
func TestWriteConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 50 {
				if err := Write(path, bytes.Repeat([]byte{'a' + byte(i)}, 1000), 0o600, Crash); err != nil {
					t.Error(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) != 1000 || len(bytes.Trim(got, string(got[:1]))) != 0 {
					t.Errorf("read a mixture of %d bytes, %v", len(got), err)
				}
			}
		})
	}
	writers.Wait()
	only(t, filepath.Dir(path), "file")
}

func only(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder has %v, %v; want %s", entries, err, name)
	}
}
