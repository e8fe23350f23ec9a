package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"podium.dev/podium/internal/logfile"
	"podium.dev/podium/internal/shim"
)

// maxLine is how much of a line is one entry of the log: a longer one is written in parts.
const maxLine = 16 << 10

// logFile is a container's log in CRI's format, which both its streams are written to:
//
//	2016-10-06T00:17:09.669794202Z stdout F the content of a line
//	2016-10-06T00:17:09.669794202Z stderr P a part of a line
//
// It is put aside before it is larger than its limit, by the shim itself: whoever looked at its size now and then would
// find, after seconds of a flood, a disk that is full.
type logFile struct {
	path string

	mu     sync.Mutex
	f      *os.File // nil when there is no log
	size   int64    // of f
	limits shim.LogLimits
	failed bool // the last rotation has
}

// openLog opens the log for writing at its end. An empty path makes one that keeps nothing.
func openLog(path string, limits shim.LogLimits) (*logFile, error) {
	l := &logFile{path: path, limits: limits}
	return l, l.reopen()
}

// reopen opens the file again by its path; the old one stays in use when that fails. A reader that finds another file
// at the path may trust that the old one is whole: nothing is written to it after the new one was made.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reopenLocked()
}

func (l *logFile) reopenLocked() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f, l.size = f, 0
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	return nil
}

func (l *logFile) limit(limits shim.LogLimits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// write appends whole entries. What cannot be written, the disk being full or the log not to be put aside, is lost: the
// container must not stop.
func (l *logFile) write(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	if l.limits.MaxSize > 0 && l.size > 0 && l.size+int64(len(entries)) >= l.limits.MaxSize {
		if err := l.rotateLocked(time.Now()); err != nil {
			l.complainLocked(err)
			return
		}
		l.failed = false
	}
	n, _ := l.f.Write(entries)
	l.size += int64(n)
}

// rotateLocked puts the file aside, removes those that are too many with it, and opens a new one.
func (l *logFile) rotateLocked(now time.Time) error {
	aside, err := logfile.Aside(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	newest := ""
	if len(aside) > 0 {
		newest = aside[len(aside)-1]
	}
	for _, name := range logfile.Excess(aside, l.limits.MaxFiles) {
		for _, file := range []string{name, name + logfile.Compressed} {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // or the files would be more and more
			}
		}
	}
	// Another may have put it aside just now, and will ask for the log to be opened again.
	if err := os.Rename(l.path, logfile.Next(l.path, newest, now)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.reopenLocked()
}

// complainLocked reports a failed rotation, the first of a row only: there is one for every write of a flood.
func (l *logFile) complainLocked(err error) {
	if !l.failed {
		l.failed = true
		fmt.Fprintf(os.Stderr, "Failed to put the log %s aside, what is written is lost: %v\n", l.path, err)
	}
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}

// lineWriter cuts a stream into entries of the log.
type lineWriter struct {
	log    *logFile
	stream string
	// rest is the beginning of a line whose end has not come, no longer than maxLine.
	rest []byte
	out  []byte
}

// write takes what was read at a time.
func (w *lineWriter) write(data []byte, now time.Time) {
	if w.log.path == "" {
		return
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		line := data
		if end >= 0 {
			line = data[:end]
		}
		if room := maxLine - len(w.rest); len(line) > room {
			w.entry('P', w.rest, line[:room], now)
			w.rest = nil
			data = data[room:]
			continue
		}
		if end < 0 {
			w.rest = append(w.rest, line...)
			break
		}
		w.entry('F', w.rest, line, now)
		w.rest = nil
		data = data[end+1:]
	}
	w.flush()
}

// finish writes what is left of a last line without an end.
func (w *lineWriter) finish(now time.Time) {
	if len(w.rest) > 0 {
		w.entry('P', w.rest, nil, now)
		w.rest = nil
	}
	w.flush()
	w.out = nil
}

func (w *lineWriter) entry(tag byte, a, b []byte, now time.Time) {
	w.out = now.UTC().AppendFormat(w.out, time.RFC3339Nano)
	w.out = append(w.out, ' ')
	w.out = append(w.out, w.stream...)
	w.out = append(w.out, ' ', tag, ' ')
	w.out = append(w.out, a...)
	w.out = append(w.out, b...)
	w.out = append(w.out, '\n')
	if len(w.out) >= maxOut {
		w.log.write(w.out)
		w.out = w.out[:0]
	}
}

// maxOut is how many bytes of entries are gathered before they are written: an entry is up to 45 times as long as its
// line, so that a chunk of empty lines would take more than a MiB of the shim's memory.
const maxOut = 64 << 10

// keepOut is the size of an output buffer that is kept for the next time.
const keepOut = 1 << 10

func (w *lineWriter) flush() {
	if len(w.out) > 0 {
		w.log.write(w.out)
	}
	if w.out = w.out[:0]; cap(w.out) > keepOut {
		w.out = nil
	}
}
