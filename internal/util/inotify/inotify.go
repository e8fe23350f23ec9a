// Package inotify has the kernel tell of a folder's changes, also of a folder that is not there yet.
package inotify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Change is one thing that the kernel told of a folder.
type Change struct {
	// Name is that of the entry, "" for the folder itself.
	Name string
	// Mask says what happened, as inotify(7) does.
	Mask uint32
}

const watched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVED_TO | unix.IN_MOVED_FROM |
	unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// Watcher has the kernel tell of a folder's changes. Unlike with portable watchers, it is told when the writer of
// a file closes it. Follow must be called by one goroutine at a time.
type Watcher struct {
	events *os.File
	fd     int
	// dir is the folder that is watched, wd the kernel's number of the watch.
	dir string
	wd  int
}

// New makes a Watcher that watches nothing before Follow.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &Watcher{events: os.NewFile(uintptr(fd), "inotify"), fd: fd, wd: -1}, nil
}

// Follow watches the folder of a path: itself, or where that is not there, the nearest one above, in which it
// will appear. It is called again whenever the folders may have changed, and reports whether it watches
// another one now.
func (w *Watcher) Follow(path string) (moved bool, err error) {
	dir := path
	for {
		info, err := os.Stat(dir)
		if err == nil && info.IsDir() {
			break
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return false, err
	}
	wd, err := unix.InotifyAddWatch(w.fd, dir, watched)
	if err != nil {
		return false, os.NewSyscallError("inotify_add_watch "+dir, err)
	}
	if wd == w.wd {
		return false, nil
	}
	if w.wd >= 0 {
		// Of a folder that is gone the kernel has dropped it already.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(w.wd))
	}
	w.dir, w.wd = dir, wd
	return true, nil
}

// Dir is the folder that is watched now.
func (w *Watcher) Dir() string { return w.dir }

// Changes hands out what the kernel tells, until the context ends, which ends the watch. failed is called, at most
// once, when it ends for another reason.
func (w *Watcher) Changes(ctx context.Context, failed func(error)) <-chan []Change {
	changes := make(chan []Change)
	context.AfterFunc(ctx, func() { _ = w.events.Close() })
	go func() {
		buffer := make([]byte, 16<<10)
		for {
			n, err := w.events.Read(buffer)
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					failed(err)
				}
				return
			}
			select {
			case changes <- parseChanges(buffer[:n]):
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes
}

func parseChanges(raw []byte) []Change {
	var changes []Change
	for len(raw) >= unix.SizeofInotifyEvent {
		length := binary.NativeEndian.Uint32(raw[12:])
		end := unix.SizeofInotifyEvent + int(length)
		if end > len(raw) {
			break
		}
		name := raw[unix.SizeofInotifyEvent:end]
		if at := bytes.IndexByte(name, 0); at >= 0 {
			name = name[:at]
		}
		changes = append(changes, Change{string(name), binary.NativeEndian.Uint32(raw[4:])})
		raw = raw[end:]
	}
	return changes
}
