package logread

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// timeFormat is the form of the time before a line, of a fixed width; the kubelet's RFC3339NanoFixed.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// entry is a line of a log file: a line of the container's output or, when it was long, a part of one.
type entry struct {
	at     time.Time
	stderr bool
	// text is the output, with the end of the line if it has one.
	text []byte
}

// parse takes an entry apart:
//
//	2016-10-06T00:17:09.669794202Z stdout F the content of a line
//	2016-10-06T00:17:09.669794202Z stderr P a part of a line
func parse(line []byte) (e entry, err error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 {
		return e, errors.New("no entry of a log in CRI's format")
	}
	if e.at, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return e, fmt.Errorf("the time of an entry: %w", err)
	}
	switch s := runtimeapi.LogStreamType(stream); s {
	case runtimeapi.Stdout, runtimeapi.Stderr:
		e.stderr = s == runtimeapi.Stderr
	default:
		return e, fmt.Errorf("an entry is of stream %.10q", stream)
	}
	first, _, _ := strings.Cut(string(tags), runtimeapi.LogTagDelimiter)
	if e.text = text; runtimeapi.LogTag(first) == runtimeapi.LogTagPartial {
		e.text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	return e, nil
}

// errLimit is returned when all bytes that were asked for are written.
var errLimit = errors.New("the limit of bytes is reached")

// entryWriter writes the entries that were asked for.
type entryWriter struct {
	o    Options
	out  io.Writer
	left int64 // bytes; negative for no limit
	// within reports of each stream that its last entry had no end, so that the next goes on with the line.
	within [2]bool
}

func (w *entryWriter) write(e entry) error {
	stream, wanted := 0, w.o.Stdout
	if e.stderr {
		stream, wanted = 1, w.o.Stderr
	}
	begins := !w.within[stream]
	w.within[stream] = !bytes.HasSuffix(e.text, []byte{'\n'})
	if !wanted || e.at.Before(w.o.Since) {
		return nil
	}
	if w.o.Timestamps && begins {
		if err := w.put(append(e.at.AppendFormat(nil, timeFormat), ' ')); err != nil {
			return err
		}
	}
	return w.put(e.text)
}

func (w *entryWriter) put(text []byte) error {
	limited := w.left >= 0
	if limited && int64(len(text)) >= w.left {
		_, err := w.out.Write(text[:w.left])
		w.left = 0
		return errors.Join(err, errLimit)
	}
	if limited {
		w.left -= int64(len(text))
	}
	_, err := w.out.Write(text)
	return err
}
