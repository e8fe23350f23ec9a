package app

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"podium.dev/podium/internal/paths"
)

func TestLockIsHeldOnce(t *testing.T) {
	p := paths.For(t.TempDir())
	if err := CheckNotRunning(p); err != nil {
		t.Fatal(err)
	}
	first, err := lockRoot(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockRoot(p); !errors.Is(err, ErrAlreadyRunning) {
		t.Errorf("locked twice: %v", err)
	}
	if err := CheckNotRunning(p); !errors.Is(err, ErrAlreadyRunning) {
		t.Errorf("it is locked: %v", err)
	}
	first.release()
	if err := CheckNotRunning(p); err != nil {
		t.Error(err)
	}
}

// A daemon that was just killed does not stand in the way of the next.
func TestLockOfDyingHolder(t *testing.T) {
	p := paths.For(t.TempDir())
	if err := os.MkdirAll(p.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("flock", "--no-fork", lockFile(p), "sh", "-c", "echo held; exec sleep 60")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lockFile(p), []byte(strconv.Itoa(other.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckNotRunning(p); !errors.Is(err, ErrAlreadyRunning) {
		t.Errorf("while it lives: %v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if l, err := lockRoot(p); err != nil {
		t.Error(err)
	} else {
		l.release()
	}
	_ = other.Wait()
}
