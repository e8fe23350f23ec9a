package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/safeopen"
)

// An environment file lies in a volume that a container fills with what it likes.
func TestEnvFileOfAHostileContainer(t *testing.T) {
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	large := filepath.Join(volume, "large")
	for _, err := range []error{
		os.Mkdir(volume, 0o755), unix.Mkfifo(filepath.Join(volume, "fifo"), 0o666), os.Symlink("/dev/zero", filepath.Join(volume, "zero")),
		os.WriteFile(filepath.Join(dir, "host"), []byte("A='secret'\n"), 0o600), os.Symlink("../host", filepath.Join(volume, "out")),
		os.WriteFile(large, nil, 0o600), os.Truncate(large, 1<<40), os.WriteFile(filepath.Join(volume, "good"), []byte("A='b'\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]error{
		"fifo": safeopen.ErrNotRegular, "zero": os.ErrNotExist, "out": os.ErrNotExist, "large": safeopen.ErrTooLarge, "good": nil,
	} {
		value, err := envFileValue(volume, path, "A")
		if !errors.Is(err, want) || want == nil && value != "b" {
			t.Errorf("%s: %q, %v; want error %v", path, value, err, want)
		}
	}
}
