package inherit

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// leaky makes a descriptor as a shell's `exec 9>file` does.
func leaky(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func closes(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.FD_CLOEXEC != 0
}

func TestDrop(t *testing.T) {
	before := unix.Umask(0o077)
	defer unix.Umask(before)
	for name, drop := range map[string]func() error{"all at once": Drop, "one by one": closeEachOnExec} {
		fd := leaky(t)
		if closes(t, fd) {
			t.Fatal("the descriptor is closed on exec before")
		}
		if err := drop(); err != nil {
			t.Fatal(err)
		}
		if !closes(t, fd) {
			t.Errorf("%s: an inherited descriptor is passed on", name)
		}
		if closes(t, 1) || closes(t, 2) {
			t.Errorf("%s: a standard stream is not passed on", name)
		}
	}
	if got := unix.Umask(0o022); got != 0o022 {
		t.Errorf("umask = %#o", got)
	}
}

func TestOnly(t *testing.T) {
	before := unix.Umask(0o022)
	defer unix.Umask(before)
	own, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	kept, dropped := leaky(t), leaky(t)
	if err := Only(kept); err != nil {
		t.Fatal(err)
	}
	if !closes(t, kept) || !closes(t, int(own.Fd())) {
		t.Error("what is kept is passed on")
	}
	if _, err := unix.FcntlInt(uintptr(dropped), unix.F_GETFD, 0); err == nil {
		t.Error("an inherited descriptor is open")
	}
}
