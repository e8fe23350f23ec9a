package server

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is how much of a line is one entry of the log: a longer one is written in parts.
const maxLine = 16 << 10

// logFile is a container's log in CRI's format, which both its streams are written to:
//
//	2016-10-06T00:17:09.669794202Z stdout F the content of a line
//	2016-10-06T00:17:09.669794202Z stderr P a part of a line
type logFile struct {
	path string

	mu sync.Mutex
	f  *os.File // nil when there is no log
}

// openLog opens the log for writing at its end. An empty path makes one that keeps nothing.
func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.reopen()
}

// reopen opens the file anew by its path; the old one stays in use when that fails.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f = f
	return nil
}

// write appends whole entries. What cannot be written, the disk being full, is lost: the container must not stop.
func (l *logFile) write(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_, _ = l.f.Write(entries)
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
}

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
