package static

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// change is one thing that the kernel told of a folder: the name is that of the entry, "" for the folder itself.
type change struct {
	name string
	mask uint32
}

const watched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVED_TO | unix.IN_MOVED_FROM |
	unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// watcher has the kernel tell of a folder's changes. Unlike with portable watchers, a file that was written is
// told of when its writer closes it, not at each write.
type watcher struct {
	events *os.File
	fd     int
	// dir is the folder that is watched, wd the kernel's number of the watch.
	dir string
	wd  int
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &watcher{events: os.NewFile(uintptr(fd), "inotify"), fd: fd, wd: -1}, nil
}

// follow watches the folder of a path: itself, or where that is not there, the nearest one above, in which it
// will appear. It is called again whenever the folders may have changed, and reports whether it watches
// another one now.
func (w *watcher) follow(path string) (moved bool, err error) {
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

// read waits for changes and answers with them; an error ends the watch.
func (w *watcher) read(buffer []byte) ([]change, error) {
	n, err := w.events.Read(buffer)
	if err != nil {
		return nil, err
	}
	return parseChanges(buffer[:n]), nil
}

func parseChanges(raw []byte) []change {
	var changes []change
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
		changes = append(changes, change{string(name), binary.NativeEndian.Uint32(raw[4:])})
		raw = raw[end:]
	}
	return changes
}

func (w *watcher) close() error { return w.events.Close() }
