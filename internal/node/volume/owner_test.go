package volume

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Containers that use the volume already put a link to a folder of the host in the place of one of its own, over and
// over: nothing outside the volume is given to the group.
func TestTakeAllLeadsNowhereElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change groups")
	}
	dir := t.TempDir()
	inside, outside := filepath.Join(dir, "volume"), filepath.Join(dir, "host")
	for _, d := range []string{filepath.Join(inside, "d"), outside} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(inside, "l")); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(inside, "d"), unix.AT_FDCWD, filepath.Join(inside, "l"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	group := int64(4711)
	for range 3000 {
		if err := (owner{group: &group}).takeAll(inside); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
	for _, path := range []string{outside, filepath.Join(outside, "file")} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Gid == uint32(group) || st.Mode&0o077 != 0 {
			t.Errorf("%s of the host has group %d and mode %o (%v)", filepath.Base(path), st.Gid, st.Mode&0o7777, err)
		}
	}
}

func TestTakeAllGivesAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change groups")
	}
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	group := int64(4711)
	o := owner{group: &group}
	for _, err := range []error{
		os.MkdirAll(deep, 0o700), os.WriteFile(filepath.Join(deep, "file"), nil, 0o600), unix.Mkfifo(filepath.Join(deep, "fifo"), 0o600),
		os.Symlink("nowhere", filepath.Join(deep, "link")), o.takeAll(dir),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]uint32{
		dir: 0o2775, deep: 0o2770, filepath.Join(deep, "file"): 0o660, filepath.Join(deep, "fifo"): 0o660, filepath.Join(deep, "link"): 0o777,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Gid != uint32(group) || st.Mode&0o7777 != want {
			t.Errorf("%s: group %d, mode %o (%v), want %d, %o", path, st.Gid, st.Mode&0o7777, err, group, want)
		}
	}
	if !o.owns(dir) {
		t.Error("the folder does not count as the group's")
	}
}
