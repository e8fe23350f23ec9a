package shimtest

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

func stdin(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Echo: true})
	req.Stdin = true
	run(t, sh, req)
	out, outW := pipe(t)
	if _, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID}, outW, nil); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"first\n", "second\n"} { // each attached again: stdin stays open
		in := attachStdin(t, sh, req.ID)
		write(t, in, line)
		expect(t, out, line)
		_ = in.Close()
	}
}

func stdinOnce(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Echo: true, ExitCode: 4})
	req.Stdin, req.StdinOnce = true, true
	run(t, sh, req)
	in := attachStdin(t, sh, req.ID)
	write(t, in, "all\n")
	if again, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID, Stdin: true}, nil, nil); err != nil || again.Stdin != nil {
		t.Errorf("a second stdin: %v, %v", again, err)
	}
	_ = in.Close()
	if e := event(t, sh); e.Exit.Code != 4 {
		t.Errorf("event = %+v", e)
	}
	if got := content(t, req.LogPath); got != "stdout F all\n" {
		t.Errorf("log = %q", got)
	}
}

func terminal(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Echo: true})
	req.Stdin, req.TTY = true, true
	run(t, sh, req)
	out, outW := pipe(t)
	attached, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID, Stdin: true}, outW, nil)
	if err != nil {
		t.Fatal(err)
	}
	tty := attached.Stdin
	defer tty.Close()
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
		t.Errorf("resize: %v", err)
	}
	write(t, tty, "hello\n")
	expect(t, out, "hello\r\nhello\r\n") // the terminal's echo, then the process's
}

func attachOutput(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Echo: true})
	req.Stdin = true
	run(t, sh, req)
	in := attachStdin(t, sh, req.ID)
	a, aw := pipe(t)
	b, bw := pipe(t)
	attach := func(f *os.File) <-chan shim.AttachEnd {
		attached, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID}, f, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		return attached.End
	}
	attach(aw)
	attach(bw)
	write(t, in, "both\n")
	expect(t, a, "both\n")
	expect(t, b, "both\n")
	c, cw := pipe(t)
	late := attach(cw)
	_ = a.Close() // one leaves, the container and the other do not care
	write(t, in, "one\n")
	expect(t, b, "one\n")
	if err := sh.Signal(t.Context(), shim.SignalRequest{Container: req.ID, Signal: int(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	event(t, sh)
	_ = b.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(b); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "one\n" {
		t.Errorf("who came late got %q, %v", rest, err)
	}
	select {
	case end := <-late:
		if want := (shim.AttachEnd{Before: int64(len("both\n"))}); end != want {
			t.Errorf("the late one's end is %+v, want %+v", end, want)
		}
	case <-time.After(patience):
		t.Error("the end of an attachment is not told")
	}
	if _, err := sh.Attach(t.Context(), shim.AttachRequest{Container: req.ID}, os.Stderr, nil); err == nil {
		t.Error("attached to a container that has ended")
	}
}

// execOutput runs a process to its end.
func execOutput(t *testing.T, sh shim.Shim, container string, args []string) (out, errs string, exit shim.Exit) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	o, ow := pipe(t)
	e, ew := pipe(t)
	if _, err := sh.Exec(t.Context(), shim.ExecRequest{Container: container, ID: t.Name(), Args: args}, null, ow, ew); err != nil {
		t.Fatalf("exec: %v", err)
	}
	_, _ = ow.Close(), ew.Close()
	_ = o.SetReadDeadline(time.Now().Add(patience))
	_ = e.SetReadDeadline(time.Now().Add(patience))
	ob, err1 := io.ReadAll(o)
	eb, err2 := io.ReadAll(e)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	ev := event(t, sh)
	if ev.Container != container || ev.Exec != t.Name() {
		t.Errorf("event = %+v", ev)
	}
	return string(ob), string(eb), ev.Exit
}

func exec(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Forever: true})
	run(t, sh, req)
	out, errs, exit := execOutput(t, sh, req.ID, w.Exec(Behaviour{Output: "out\n", Errors: "err\n", ExitCode: 3}))
	if out != "out\n" || errs != "err\n" || exit.Code != 3 {
		t.Errorf("exec = %q, %q, %+v", out, errs, exit)
	}
	if got := content(t, req.LogPath); got != "" {
		t.Errorf("an exec's output is in the log: %q", got)
	}
}

func execErrors(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Forever: true})
	run(t, sh, req)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	try := func(container string, b Behaviour) error {
		_, err := sh.Exec(t.Context(), shim.ExecRequest{Container: container, ID: "x", Args: w.Exec(b)}, null, null, null)
		return err
	}
	var start *shim.StartError
	if err := try(req.ID, Behaviour{StartError: true}); !errors.As(err, &start) {
		t.Errorf("exec of what is not there: %v", err)
	}
	if err := try("nobody", Behaviour{}); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("exec in nobody: %v", err)
	}
	if err := sh.Signal(t.Context(), shim.SignalRequest{Container: req.ID, Signal: int(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	event(t, sh)
	if err := try(req.ID, Behaviour{}); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("exec in an ended container: %v", err)
	}
}

func execKill(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Forever: true})
	run(t, sh, req)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	ask := shim.ExecRequest{Container: req.ID, ID: "x", Args: w.Exec(Behaviour{Forever: true, IgnoreTerm: true})}
	if _, err := sh.Exec(t.Context(), ask, null, null, null); err != nil {
		t.Fatal(err)
	}
	if err := sh.Signal(t.Context(), shim.SignalRequest{Container: req.ID, Exec: "x", Signal: int(unix.SIGKILL), All: true}); err != nil {
		t.Fatal(err)
	}
	if e := event(t, sh); e.Container != req.ID || e.Exec != "x" || e.Exit.Code != 137 {
		t.Errorf("event = %+v", e)
	}
}
