package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// folderWatch tells of files in a folder that were written to their end or moved there. fsnotify, which the rest uses,
// cannot tell that a writer is done.
type folderWatch struct {
	file *os.File
}

// watchFolder begins to watch.
func watchFolder(dir string) (*folderWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch the folder %s: %w", dir, err)
	}
	w := &folderWatch{file: os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the folder %s: %w", dir, err)
	}
	return w, nil
}

// Close ends the watch and a Next that waits.
func (w *folderWatch) Close() error { return w.file.Close() }

// Next waits for the names of the next files. lost says that there were more than could be told; the error is
// os.ErrClosed after Close.
func (w *folderWatch) Next() (names []string, lost bool, err error) {
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	n, err := w.file.Read(buf)
	if err != nil {
		return nil, false, err
	}
	names, lost, gone := inotifyNames(buf[:n])
	if gone {
		return names, lost, errors.New("the folder was deleted")
	}
	return names, lost, nil
}

// inotifyNames reads what the kernel wrote. gone says that what was watched is no more.
func inotifyNames(raw []byte) (names []string, lost, gone bool) {
	for len(raw) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(raw[4:8])
		size := int(binary.NativeEndian.Uint32(raw[12:16]))
		raw = raw[unix.SizeofInotifyEvent:]
		if size > len(raw) {
			return names, true, gone
		}
		name := string(bytes.TrimRight(raw[:size], "\x00"))
		raw = raw[size:]
		lost = lost || mask&unix.IN_Q_OVERFLOW != 0
		gone = gone || mask&unix.IN_IGNORED != 0
		if name != "" {
			names = append(names, name)
		}
	}
	return names, lost, gone
}
