// Package safeopen opens files whose place, kind or size somebody else controls: a container, an image, the
// writer of a watched folder.
//
// A plain open(2) of such a path can block for ever (a FIFO without a writer keeps the thread: fifo(7); a file
// under a lease blocks for /proc/sys/fs/lease-break-time: fcntl(2)), act on a device, or follow a link to a file
// of the host. The functions here first get a handle with O_PATH, which does none of this, look at the handle
// whether it is a regular file, and only then open that same file for reading, without blocking.
package safeopen

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotRegular marks errors about a path that is no regular file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge marks errors about a file that is larger than the reader allows.
	ErrTooLarge = errors.New("file is too large")
)

// readFlags open a regular file for reading.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// In opens the regular file at path below root. Links are resolved as if root were the file system's root, so
// that none leads out of it, whoever changes the tree meanwhile.
func In(root, path string) (*os.File, error) {
	handle, err := pathrs.OpenInRoot(root, path)
	if err != nil {
		return nil, err
	}
	return reopen(handle, path)
}

// File opens the regular file at path, whose last part must not be a link.
func File(path string) (*os.File, error) { return open(path, unix.O_NOFOLLOW) }

// Following opens the regular file at path, following links: for folders of the node's own, in which an
// administrator may use them.
func Following(path string) (*os.File, error) { return open(path, 0) }

func open(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return reopen(os.NewFile(uintptr(fd), path), path)
}

// reopen opens the regular file that the handle stands for, and closes the handle.
func reopen(handle *os.File, path string) (*os.File, error) {
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return pathrs.Reopen(handle, readFlags)
}

// Read reads a whole file of at most limit bytes and closes it; a larger one is an error that wraps ErrTooLarge.
// It takes what an open function returns: safeopen.Read(limit)(safeopen.In(root, path)).
func Read(limit int64) func(*os.File, error) ([]byte, error) {
	return func(f *os.File, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		defer f.Close()
		content, err := io.ReadAll(io.LimitReader(f, limit+1))
		if err == nil && int64(len(content)) > limit {
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
		}
		return content, err
	}
}

// Tail reads the last bytes of a file, at most limit, and closes it.
func Tail(limit int64) func(*os.File, error) ([]byte, error) {
	return func(f *os.File, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.NewSectionReader(f, max(info.Size()-limit, 0), limit))
	}
}
