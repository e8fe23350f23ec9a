package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/paths"
)

// ErrAlreadyRunning is returned when another daemon, or a down, holds the root.
var ErrAlreadyRunning = errors.New("podium is already running")

// lock is the hold on a root: an flock(2) on a file that has the holder's pid. The kernel lets go of it when
// the holder dies, however it dies.
type lock struct{ f *os.File }

func lockFile(p paths.Paths) string { return filepath.Join(p.Root, "lock") }

// lockRoot takes the root or answers with an error that wraps ErrAlreadyRunning.
func lockRoot(p paths.Paths) (*lock, error) {
	if err := os.MkdirAll(p.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the root: %w", err)
	}
	f, err := os.OpenFile(lockFile(p), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the root: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, heldError(p, f)
		}
		return nil, fmt.Errorf("lock the root: %w", err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", lockFile(p), err)
	}
	return &lock{f}, nil
}

func heldError(p paths.Paths, f *os.File) error {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	return fmt.Errorf("%w on %s (pid %s); nothing was changed", ErrAlreadyRunning, p.Root, strings.TrimSpace(string(b[:n])))
}

func (l *lock) release() { l.f.Close() }

// CheckNotRunning answers with an error that wraps ErrAlreadyRunning when a daemon holds the root. It
// changes nothing.
func CheckNotRunning(p paths.Paths) error {
	f, err := os.Open(lockFile(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the lock of the root: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return heldError(p, f)
	}
	return nil
}

// waitUnlocked takes the root as soon as its holder lets go. It blocks in the kernel, not in a loop, until
// then.
func waitUnlocked(p paths.Paths) (*lock, error) {
	f, err := os.OpenFile(lockFile(p), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the root: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return &lock{f}, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("wait for the daemon to let go of the root: %w", err)
		}
	}
}
