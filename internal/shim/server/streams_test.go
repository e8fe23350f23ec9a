package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podium.dev/podium/internal/logfile"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/test/pace"
)

// containerOf is a container of whose streams the test holds the container's ends.
func containerOf(t *testing.T, limits shim.LogLimits) (s *server, stdout *os.File, logPath string) {
	t.Helper()
	logPath = filepath.Join(t.TempDir(), "0.log")
	st, child, err := openStreams(shim.RunRequest{ID: "c", LogPath: logPath}, limits)
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	close(up)
	s = &server{containers: map[string]*container{"c": {req: st.req, io: st, up: up, pidfd: -1}}}
	st.pump()
	stdout = child.std[1]
	_ = child.std[2].Close()
	t.Cleanup(func() {
		_ = stdout.Close()
		st.drain(pace.Of(10 * time.Second))
	})
	return s, stdout, logPath
}

// attachTo attaches the writing end of a pipe and returns its reading end, and that of the end's report.
func attachTo(t *testing.T, s *server) (out, end *os.File) {
	t.Helper()
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	end, endW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = out.Close(), end.Close() })
	_, err = s.attach(shim.AttachRequest{Container: "c", Stdout: true, End: true}, []*os.File{outW, endW})
	_, _ = outW.Close(), endW.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out, end
}

func endOf(t *testing.T, f *os.File) (end shim.AttachEnd) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(pace.Of(10 * time.Second)))
	if err := json.NewDecoder(f).Decode(&end); err != nil {
		t.Fatalf("read the end of an attachment: %v", err)
	}
	return end
}

// A client that is attached and reads nothing holds the container up for less than a second for each MiB that it
// takes; then it is let go, with the reason, and the log has all.
func TestClientThatDoesNotReadIsLetGo(t *testing.T) {
	s, stdout, logPath := containerOf(t, shim.LogLimits{})
	_, stuck := attachTo(t, s)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 2048
	_ = stdout.SetWriteDeadline(time.Now().Add(pace.Of(10 * time.Second))) // one write was held for 30 s before
	for range lines {
		if _, err := stdout.Write(line); err != nil {
			t.Fatalf("the container is held up: %v", err)
		}
	}
	if end := endOf(t, stuck); !end.Slow {
		t.Errorf("the end of the client that does not read is %+v", end)
	}
	_ = stdout.Close()
	s.containers["c"].io.drain(pace.Of(10 * time.Second))
	log, err := os.ReadFile(logPath)
	if err != nil || bytes.Count(log, []byte("\n")) != lines {
		t.Errorf("the log has %d lines (%v), want %d", bytes.Count(log, []byte("\n")), err, lines)
	}
}

// Clients that come one after the other have one credit together: however often one comes again, the container goes on.
func TestClientsShareTheCredit(t *testing.T) {
	const chunk = 64 << 10 // fills a pipe
	have := maxCredit
	var held time.Duration
	for range 100 {
		have = credit(have, chunk, 0) // the pipe takes it
		held += have
		have = credit(have, 0, have) // and the next write waits as long as it may
	}
	if most := maxCredit + 100*chunk*time.Second/creditRate; held > most {
		t.Errorf("a hundred clients held the container for %v, at most %v is right", held, most)
	}
	if got := credit(0, 64*creditRate, 0); got != maxCredit {
		t.Errorf("what a fast client earns is %v, the most is %v", got, maxCredit)
	}
}

// A client that reads is never let go and gets every byte, also when the container writes faster than it reads.
func TestClientThatReadsGetsAll(t *testing.T) {
	s, stdout, _ := containerOf(t, shim.LogLimits{})
	out, end := attachTo(t, s)
	const size = 4 << 20
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, out)
		got <- n
	}()
	if _, err := stdout.Write(bytes.Repeat([]byte("0123456789abcde\n"), size/16)); err != nil {
		t.Fatal(err)
	}
	_ = stdout.Close()
	if n := <-got; n != size {
		t.Errorf("the client got %d of %d bytes", n, size)
	}
	if e := endOf(t, end); e != (shim.AttachEnd{}) {
		t.Errorf("the end is %+v", e)
	}
}

// The attachment's end says how much was written before, and an output that is over cannot be attached to: such a
// client would wait for ever.
func TestAttachAtTheEnd(t *testing.T) {
	s, stdout, _ := containerOf(t, shim.LogLimits{})
	first, _ := attachTo(t, s)
	if _, err := stdout.WriteString("hi\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	late, end := attachTo(t, s)
	_ = stdout.Close()
	if rest, err := io.ReadAll(late); err != nil || len(rest) > 0 {
		t.Errorf("who came late got %q (%v)", rest, err)
	}
	if e := endOf(t, end); e.Before != 3 || e.Slow {
		t.Errorf("the end of who came late is %+v", e)
	}
	s.containers["c"].io.finished.Wait()
	if _, err := s.attach(shim.AttachRequest{Container: "c", Stdout: true}, []*os.File{os.Stderr}); err == nil {
		t.Error("attached to an output that is over")
	}
}

// The daemon of an older version sends no pipe for the end.
func TestAttachWithoutEnd(t *testing.T) {
	s, stdout, _ := containerOf(t, shim.LogLimits{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := s.attach(shim.AttachRequest{Container: "c", Stdout: true}, []*os.File{w}); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	_, _ = stdout.WriteString("hi\n")
	_ = stdout.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "hi\n" {
		t.Errorf("got %q (%v)", got, err)
	}
}

// A flood of lines never makes a file that is larger than the limit, nor more files than the limit, and what is kept is
// the end, without a gap.
func TestLogStopsAtItsLimit(t *testing.T) {
	limits := shim.LogLimits{MaxSize: 100 << 10, MaxFiles: 4}
	s, stdout, path := containerOf(t, limits)
	const lines = 60_000
	var text bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&text, "%d\n", i)
	}
	if _, err := stdout.Write(text.Bytes()); err != nil {
		t.Fatal(err)
	}
	_ = stdout.Close()
	s.containers["c"].io.drain(pace.Of(10 * time.Second))
	aside, err := logfile.Aside(path)
	if err != nil || len(aside) != limits.MaxFiles-1 {
		t.Fatalf("put aside: %v (%v)", aside, err)
	}
	var kept []byte
	for _, file := range append(aside, path) {
		data, err := os.ReadFile(file)
		if err != nil || int64(len(data)) > limits.MaxSize {
			t.Errorf("%s has %d bytes (%v), the limit is %d", file, len(data), err, limits.MaxSize)
		}
		kept = append(kept, data...)
	}
	next := -1
	for line := range strings.Lines(string(kept)) {
		var n int
		if _, err := fmt.Sscan(line[strings.Index(line, " F ")+3:], &n); err != nil {
			t.Fatal(err)
		}
		if next >= 0 && n != next {
			t.Fatalf("after line %d comes line %d", next-1, n)
		}
		next = n + 1
	}
	if next != lines {
		t.Errorf("the last line is %d of %d", next-1, lines)
	}
}

// Another kubelet rotates by moving the file away and asking for it to be opened again; limits that come later hold too.
func TestLogReopenedAndLimitedLater(t *testing.T) {
	s, stdout, path := containerOf(t, shim.LogLimits{})
	out, _ := attachTo(t, s)
	say := func(text string) {
		t.Helper()
		if _, err := stdout.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len(text))); err != nil { // so it is in the log
			t.Fatal(err)
		}
	}
	say("one\n")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	say("two\n")
	if _, err := s.reopen(shim.ContainerRef{Container: "c"}); err != nil {
		t.Fatal(err)
	}
	say("three\n")
	if data, _ := os.ReadFile(path + ".moved"); bytes.Count(data, []byte("\n")) != 2 {
		t.Errorf("the file that was moved has %q", data)
	}
	if _, err := s.limitLogs(shim.LogLimits{MaxSize: 10, MaxFiles: 2}); err != nil {
		t.Fatal(err)
	}
	say("four\n")
	if data, _ := os.ReadFile(path); !strings.HasSuffix(string(data), "four\n") || bytes.Count(data, []byte("\n")) != 1 {
		t.Errorf("the log has %q", data)
	}
}

// A chunk of empty lines becomes a log 45 times as long; the shim must not hold that at once.
func TestEmptyLinesTakeLittleMemory(t *testing.T) {
	log, err := openLog(filepath.Join(t.TempDir(), "0.log"), shim.LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	w := &lineWriter{log: log, stream: "stdout"}
	flood := bytes.Repeat([]byte("\n"), chunk)
	bytesPer := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			w.write(flood, time.Now())
		}
	}).AllocedBytesPerOp()
	if most := int64(16 * chunk); bytesPer > most {
		t.Errorf("a chunk of %d empty lines takes %d bytes, at most %d is right", chunk, bytesPer, most)
	}
}
