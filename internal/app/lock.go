package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/pidfd"
)

// ErrAlreadyRunning is returned when another daemon, or a down, holds the root.
var ErrAlreadyRunning = errors.New("podium is already running")

// lastBreath is how long a killed daemon may take to be gone, which its memory delays.
const lastBreath = 500 * time.Millisecond

// lock is the hold on a root: an flock(2) on a file that has the holder's pid. The kernel lets go of it when
// the holder dies, however it dies.
type lock struct{ f *os.File }

func lockFile(p paths.Paths) string { return filepath.Join(p.Root, "lock") }

// lockRoot takes the root or returns an error that wraps ErrAlreadyRunning.
func lockRoot(p paths.Paths) (*lock, error) {
	if err := os.MkdirAll(p.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the root: %w", err)
	}
	f, err := os.OpenFile(lockFile(p), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the root: %w", err)
	}
	if err := tryLock(p, f, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return hold(p, f)
}

// tryLock locks the file, shared or not, or returns an error that wraps ErrAlreadyRunning. A holder that
// is just dying is waited for.
func tryLock(p paths.Paths, f *os.File, how int) error {
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) && awaitEnd(holder(f), lastBreath) {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w on %s (pid %d); nothing was changed", ErrAlreadyRunning, p.Root, holder(f))
	}
	if err != nil {
		return fmt.Errorf("lock the root: %w", err)
	}
	return nil
}

// hold writes this process down as the holder of the locked file.
func hold(p paths.Paths, f *os.File) (*lock, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", lockFile(p), err), f.Close())
	}
	return &lock{f}, nil
}

// holder reads the pid of who holds the lock, 0 when that is not written yet.
func holder(f *os.File) int {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// awaitEnd waits until the process has ended, and reports whether it has within the time.
func awaitEnd(pid int, within time.Duration) bool {
	if pid <= 0 {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	ended, err := pidfd.Await(fd, within)
	return err == nil && ended
}

func (l *lock) release() { l.f.Close() }

// CheckNotRunning returns an error that wraps ErrAlreadyRunning when a daemon is seen to hold the root. It
// changes nothing. A root that this user may not look into, or that is no folder, is for the preflight to tell of.
func CheckNotRunning(p paths.Paths) error {
	f, err := os.Open(lockFile(p))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the lock of the root: %w", err)
	}
	defer f.Close()
	return tryLock(p, f, unix.LOCK_SH)
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
			return hold(p, f)
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("wait for the daemon to let go of the root: %w", err)
		}
	}
}
