// Package shimtest is the contract of shim.Launcher and shim.Shim as a suite of tests: what the comments of package
// shim say, every implementation passes.
package shimtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// World is an implementation with what it needs to make containers.
type World interface {
	Launcher() shim.Launcher
	// Sandbox is a valid spec of a new sandbox with its folder made.
	Sandbox(t *testing.T) shim.SandboxSpec
	// Container prepares a container that behaves as told and returns the request that runs it.
	Container(t *testing.T, b Behaviour) shim.RunRequest
	// Exec are the arguments of a process in a container that behaves as told.
	Exec(b Behaviour) []string
}

// Behaviour is what a container's process does, in this order.
type Behaviour struct {
	// StartError makes it one that cannot be started.
	StartError bool
	// Output is written to stdout, Errors to stderr.
	Output, Errors string
	// Echo copies stdin to stdout until stdin ends.
	Echo bool
	// Forever makes it stay; SIGTERM ends it with code 143 unless IgnoreTerm is set.
	Forever, IgnoreTerm bool
	// ExitCode is its code in the end.
	ExitCode int
}

const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, world func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"LaunchStop": launchStop, "ExitCode": exitCode, "StartError": startError, "Signals": signals, "Logs": logs,
		"LongLines": longLines, "ReopenLog": reopenLog, "Stdin": stdin, "StdinOnce": stdinOnce, "Terminal": terminal, "AttachOutput": attachOutput,
		"Exec": exec, "ExecErrors": execErrors, "ExecKill": execKill, "Reconnect": reconnect, "RunTwice": runTwice,
		"StopKills": stopKills, "Forget": forget, "ConnectGone": connectGone,
	} {
		t.Run(name, func(t *testing.T) { test(t, world(t)) })
	}
}

// sandbox launches one that is stopped at the test's end.
func sandbox(t *testing.T, w World) shim.Shim {
	t.Helper()
	sh, st, err := w.Launcher().Launch(t.Context(), w.Sandbox(t))
	if err != nil {
		t.Fatalf("launch: %v", err)
	}
	if st.PausePID == 0 || st.StartedAt.IsZero() {
		t.Errorf("sandbox state = %+v", st)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := sh.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		_ = sh.Close()
	})
	return sh
}

func run(t *testing.T, sh shim.Shim, req shim.RunRequest) shim.RunResult {
	t.Helper()
	res, err := sh.Run(t.Context(), req)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	if res.PID == 0 || res.StartedAt.IsZero() {
		t.Errorf("run = %+v", res)
	}
	return res
}

// event waits for the next.
func event(t *testing.T, sh shim.Shim) shim.Event {
	t.Helper()
	select {
	case e, ok := <-sh.Events():
		if !ok {
			t.Fatal("the shim is gone")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event came")
	}
	return shim.Event{}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// content is a log's lines without their times.
func content(t *testing.T, file string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(read(t, file)) {
		at, rest, ok := strings.Cut(line, " ")
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !ok {
			t.Errorf("log line %q: %v", line, err)
		}
		out.WriteString(rest)
	}
	return out.String()
}

func launchStop(t *testing.T, w World) {
	spec := w.Sandbox(t)
	sh, _, err := w.Launcher().Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // idempotent
		if err := sh.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case e, ok := <-sh.Events():
		if ok {
			t.Errorf("event after a stop: %+v", e)
		}
	case <-time.After(patience):
		t.Error("the channel of events is not closed")
	}
	if _, err := sh.State(t.Context()); !errors.Is(err, shim.ErrGone) {
		t.Errorf("state of a stopped shim: %v", err)
	}
}

func exitCode(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{ExitCode: 7})
	before := time.Now().Add(-time.Second)
	run(t, sh, req)
	e := event(t, sh)
	if e.Container != req.ID || e.Exec != "" || e.Exit.Code != 7 || e.Exit.Signal != 0 || e.Exit.At.Before(before) || e.Exit.OOM {
		t.Errorf("event = %+v", e)
	}
	var kept shim.Exit
	if err := json.Unmarshal([]byte(read(t, req.ExitFile)), &kept); err != nil || kept != e.Exit {
		t.Errorf("exit file = %+v, %v", kept, err)
	}
	st, err := sh.State(t.Context())
	if err != nil || len(st.Containers) != 1 || st.Containers[0].Exit == nil || st.Containers[0].Exit.Code != 7 {
		t.Errorf("state = %+v, %v", st, err)
	}
}

// awaitReady waits until the container has said "ready": its signal handlers are in place.
func awaitReady(t *testing.T, req shim.RunRequest) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if data, err := os.ReadFile(req.LogPath); err == nil && strings.Contains(string(data), "ready") {
			return
		}
	}
	t.Fatal("the container did not become ready")
}

func startError(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{StartError: true})
	_, err := sh.Run(t.Context(), req)
	var start *shim.StartError
	if !errors.As(err, &start) {
		t.Fatalf("run = %v", err)
	}
	st, err := sh.State(t.Context())
	if err != nil || len(st.Containers) != 0 {
		t.Errorf("state = %+v, %v", st, err)
	}
}

func signals(t *testing.T, w World) {
	sh := sandbox(t, w)
	polite, stubborn := w.Container(t, Behaviour{Output: "ready\n", Forever: true}), w.Container(t, Behaviour{Output: "ready\n", Forever: true, IgnoreTerm: true})
	for _, req := range []shim.RunRequest{polite, stubborn} {
		run(t, sh, req)
		awaitReady(t, req)
	}
	signal := func(id string, sig unix.Signal, all bool) {
		if err := sh.Signal(t.Context(), shim.SignalRequest{Container: id, Signal: int(sig), All: all}); err != nil {
			t.Error(err)
		}
	}
	signal(stubborn.ID, unix.SIGTERM, false)
	signal(polite.ID, unix.SIGTERM, false)
	if e := event(t, sh); e.Container != polite.ID || e.Exit.Code != 143 {
		t.Errorf("event = %+v", e)
	}
	signal(stubborn.ID, unix.SIGKILL, true)
	if e := event(t, sh); e.Container != stubborn.ID || e.Exit.Code != 137 || e.Exit.Signal != 9 {
		t.Errorf("event = %+v", e)
	}
	signal(stubborn.ID, unix.SIGKILL, true) // no error once it has ended
	if err := sh.Signal(t.Context(), shim.SignalRequest{Container: "nobody", Signal: 9}); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("signal to nobody: %v", err)
	}
}

func logs(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Output: "one\n\ntwo\nhalf", Errors: "bad\n"})
	run(t, sh, req)
	event(t, sh)
	got := content(t, req.LogPath)
	for _, want := range []string{"stdout F one\nstdout F \nstdout F two\n", "stdout P half\n", "stderr F bad\n"} {
		if !strings.Contains(strings.ReplaceAll(got, "stderr F bad\n", ""), want) && !strings.Contains(got, want) {
			t.Errorf("log is %q, without %q", got, want)
		}
	}
}

func longLines(t *testing.T, w World) {
	sh := sandbox(t, w)
	const part = 16 << 10
	long := strings.Repeat("x", 2*part+10)
	req := w.Container(t, Behaviour{Output: long + "\n" + strings.Repeat("y", part) + "\n"})
	run(t, sh, req)
	event(t, sh)
	want := "stdout P " + long[:part] + "\nstdout P " + long[:part] + "\nstdout F " + long[:10] + "\nstdout F " + strings.Repeat("y", part) + "\n"
	if got := content(t, req.LogPath); got != want {
		t.Errorf("log has %d bytes, want %d", len(got), len(want))
	}
}

func reopenLog(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Echo: true})
	req.Stdin = true
	run(t, sh, req)
	in := attachStdin(t, sh, req.ID)
	out, outW := pipe(t)
	if _, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID}, outW, nil); err != nil {
		t.Fatal(err)
	}
	say := func(s string) {
		write(t, in, s)
		expect(t, out, s)
	}
	say("before\n")
	if err := os.Rename(req.LogPath, req.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	say("between\n")
	if err := sh.ReopenLog(t.Context(), req.ID); err != nil {
		t.Fatal(err)
	}
	say("after\n")
	if got := content(t, req.LogPath+".1"); got != "stdout F before\nstdout F between\n" {
		t.Errorf("rotated log = %q", got)
	}
	if got := content(t, req.LogPath); got != "stdout F after\n" {
		t.Errorf("log = %q", got)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

func attachStdin(t *testing.T, sh shim.Shim, id string) *os.File {
	t.Helper()
	a, err := sh.Attach(t.Context(), shim.AttachRequest{Container: id, Stdin: true}, nil, nil)
	if err != nil || a.Stdin == nil {
		t.Fatalf("attach to stdin: %v, %v", a.Stdin, err)
	}
	t.Cleanup(func() { _ = a.Stdin.Close() })
	return a.Stdin
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

// expect reads just as much as want is long.
func expect(t *testing.T, f *os.File, want string) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(f, got); err != nil || string(got) != want {
		t.Fatalf("read %q, want %q: %v", got[:n], want, err)
	}
}

func connectGone(t *testing.T, w World) {
	if _, err := w.Launcher().Connect(t.Context(), t.TempDir()); !errors.Is(err, shim.ErrGone) {
		t.Errorf("connect to nothing: %v", err)
	}
	if _, err := w.Launcher().Connect(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, shim.ErrGone) {
		t.Errorf("connect to no folder: %v", err)
	}
}
