package logread

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podium.dev/podium/internal/logfile"
	"podium.dev/podium/test/pace"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// writer writes a log as the shim does.
type writer struct {
	t    *testing.T
	path string
	n    int
}

func newWriter(t *testing.T) *writer {
	return &writer{t: t, path: filepath.Join(t.TempDir(), "0.log")}
}

// say appends numbered entries.
func (w *writer) say(count int) {
	w.t.Helper()
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for range count {
		w.n++
		fmt.Fprintf(f, "%s stdout F %d\n", start.Add(time.Duration(w.n)*time.Millisecond).Format(time.RFC3339Nano), w.n)
	}
}

// rotate puts the log aside, keeps at most keep of those, and compresses all but the newest.
func (w *writer) rotate(keep int, compress bool) {
	w.t.Helper()
	aside, err := logfile.Aside(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	newest := last(aside)
	if compress && newest != "" {
		data, err := os.ReadFile(newest)
		if err == nil {
			var z bytes.Buffer
			zw := gzip.NewWriter(&z)
			_, _ = zw.Write(data)
			_ = zw.Close()
			if err := os.WriteFile(newest+logfile.Compressed, z.Bytes(), 0o600); err != nil {
				w.t.Fatal(err)
			}
			_ = os.Remove(newest)
		}
	}
	for len(aside) >= keep {
		_, _ = os.Remove(aside[0]), os.Remove(aside[0]+logfile.Compressed)
		aside = aside[1:]
	}
	if err := os.Rename(w.path, logfile.Next(w.path, newest, start)); err != nil {
		w.t.Fatal(err)
	}
}

func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// gate is a client that takes what it is sent only when it is let.
type gate struct {
	bytes.Buffer
	open chan struct{}
	full chan struct{} // has an element when something came
}

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.full <- struct{}{}:
	default:
	}
	<-g.open
	return g.Buffer.Write(b)
}

func follow(t *testing.T, path string, out io.Writer, o Options) (end func() error) {
	t.Helper()
	ended, done := make(chan struct{}), make(chan error, 1)
	o.Stdout, o.Stderr = true, true
	go func() { done <- Read(t.Context(), path, o, ended, out) }()
	return func() error {
		close(ended)
		select {
		case err := <-done:
			return err
		case <-time.After(pace.Of(30 * time.Second)):
			return fmt.Errorf("it does not end")
		}
	}
}

// Whether the one who follows keeps up or is behind by many files, compressed or not, every line comes once.
func TestFollowOverRotations(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprint("compress=", compress), func(t *testing.T) {
			w := newWriter(t)
			w.say(3)
			w.rotate(9, compress) // what is older than the file that is written is not read
			w.say(3)
			client := &gate{open: make(chan struct{}), full: make(chan struct{}, 1)}
			end := follow(t, w.path, client, Options{})
			<-client.full // it has read the first file, and waits for its client
			for range 7 {
				w.say(5)
				w.rotate(9, compress)
				w.say(2)
			}
			close(client.open)
			w.say(1)
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if want := numbers(4, w.n); client.String() != want {
				t.Errorf("read %q, want %q", client.String(), want)
			}
		})
	}
}

// While it keeps up, each line comes when it is written, with no rotation or end to wait for.
func TestFollowIsTold(t *testing.T) {
	w := newWriter(t)
	w.say(1)
	r, pw := io.Pipe()
	end := follow(t, w.path, pw, Options{})
	expect := func(from, to int) {
		t.Helper()
		got := make([]byte, len(numbers(from, to)))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != numbers(from, to) {
			t.Fatalf("read %q (%v), want %d to %d", got, err, from, to)
		}
	}
	expect(1, 1)
	for range 20 {
		from := w.n + 1
		w.say(2)
		expect(from, w.n)
		w.rotate(3, true)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// The file is written on after it was put aside, until the runtime opens a new one: that is how a kubelet rotates.
func TestFollowWhatIsWrittenAfterTheMove(t *testing.T) {
	w := newWriter(t)
	w.say(2)
	out := &gate{open: make(chan struct{}), full: make(chan struct{}, 1)}
	end := follow(t, w.path, out, Options{})
	<-out.full
	close(out.open)
	moved := logfile.Next(w.path, "", start)
	if err := os.Rename(w.path, moved); err != nil {
		t.Fatal(err)
	}
	path := w.path
	w.path = moved
	w.say(2)
	w.path = path
	w.say(2)
	if err := end(); err != nil || out.String() != numbers(1, 6) {
		t.Errorf("read %q (%v)", out.String(), err)
	}
}

// Of one that is behind by more than what is kept, the lines that are gone are left out, and nothing comes twice.
func TestFollowBehindWhatIsKept(t *testing.T) {
	w := newWriter(t)
	w.say(2)
	w.rotate(3, false)
	w.say(2)
	client := &gate{open: make(chan struct{}), full: make(chan struct{}, 1)}
	end := follow(t, w.path, client, Options{})
	<-client.full
	for range 6 {
		w.say(1)
		w.rotate(3, true)
	}
	close(client.open)
	w.say(1)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if want := numbers(3, 5) + numbers(8, 11); client.String() != want && client.String() != numbers(3, 4)+numbers(8, 11) {
		t.Errorf("read %q, want %q", client.String(), want)
	}
}

// The Pod is deleted: the files are gone at once, and what was written is read.
func TestFollowTheRemovedLog(t *testing.T) {
	w := newWriter(t)
	w.say(2)
	client := &gate{open: make(chan struct{}), full: make(chan struct{}, 1)}
	end := follow(t, w.path, client, Options{})
	<-client.full
	w.say(3)
	if err := os.RemoveAll(filepath.Dir(w.path)); err != nil {
		t.Fatal(err)
	}
	close(client.open)
	if err := end(); err != nil || client.String() != numbers(1, 5) {
		t.Errorf("read %q (%v)", client.String(), err)
	}
}

// A full log is put aside just as somebody reads it: what is read is the file that was put aside, not an error.
func TestReadBetweenMoveAndNewFile(t *testing.T) {
	w := newWriter(t)
	w.say(3)
	w.rotate(3, false)
	var out bytes.Buffer
	if err := Read(t.Context(), w.path, Options{Stdout: true}, nil, &out); err != nil || out.String() != numbers(1, 3) {
		t.Errorf("read %q (%v)", out.String(), err)
	}
}

func TestReadOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	const log = `2026-01-01T00:00:01.5Z stdout F one
2026-01-01T00:00:02Z stderr F two
2026-01-01T00:00:03Z stdout P thr
not an entry
2026-01-01T00:00:04Z stdout F ee
2026-01-01T00:00:05Z stdout F 
2026-01-01T00:00:06Z stdout P half`
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	number := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"all":         {Options{}, "one\ntwo\nthree\n\nhalf"},
		"stdout":      {Options{Stdout: true}, "one\nthree\n\nhalf"},
		"stderr":      {Options{Stderr: true}, "two\n"},
		"tail":        {Options{TailLines: number(2)}, "\nhalf"},
		"tail of all": {Options{TailLines: number(99)}, "one\ntwo\nthree\n\nhalf"},
		"tail none":   {Options{TailLines: number(0)}, ""},
		"limit":       {Options{LimitBytes: number(6)}, "one\ntw"},
		"since":       {Options{Since: start.Add(4 * time.Second)}, "ee\n\nhalf"},
		"timestamps": {Options{Timestamps: true, Stdout: true}, "2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:03.000000000Z three\n" +
			"2026-01-01T00:00:05.000000000Z \n2026-01-01T00:00:06.000000000Z half"},
	} {
		if !tc.o.Stdout && !tc.o.Stderr {
			tc.o.Stdout, tc.o.Stderr = true, true
		}
		var out bytes.Buffer
		if err := Read(t.Context(), path, tc.o, nil, &out); err != nil || out.String() != tc.want {
			t.Errorf("%s: read %q (%v), want %q", name, out.String(), err, tc.want)
		}
	}
}

// An entry without an end takes bounded memory.
func TestEndlessEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.WriteString("2026-01-01T00:00:01Z stdout F ")
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Read(t.Context(), path, Options{Stdout: true}, nil, &out); err != nil || out.Len() > maxEntry {
		t.Errorf("an entry without an end: %d bytes (%v)", out.Len(), err)
	}
}

func TestFollowEndsWithItsClient(t *testing.T) {
	w := newWriter(t)
	w.say(1)
	ctx, cancel := context.WithCancel(t.Context())
	r, pw := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Read(ctx, w.path, Options{Stdout: true}, make(chan struct{}), pw) }()
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}
