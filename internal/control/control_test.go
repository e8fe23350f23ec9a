package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type fakeDaemon struct{ stopped chan struct{} }

func (fakeDaemon) Status() Status { return Status{PID: 7, Ready: true} }
func (d fakeDaemon) Stop()        { close(d.stopped) }
func (fakeDaemon) Trace(ns, name string) ([]Step, error) {
	if name != "web" {
		return nil, errors.New("no Pod " + ns + "/" + name)
	}
	return []Step{{Name: "sandbox", Took: time.Millisecond}}, nil
}
func (fakeDaemon) ListImages(context.Context) ([]Image, error) { return []Image{{ID: "sha256:1"}}, nil }
func (fakeDaemon) PullImage(_ context.Context, ref string, progress func(string)) (Image, error) {
	progress("1 of 2 layers")
	if ref == "bad" {
		return Image{}, errors.New("not found")
	}
	return Image{ID: ref}, nil
}
func (fakeDaemon) LoadImage(_ context.Context, archive string) ([]Image, error) {
	return []Image{{ID: archive}}, nil
}
func (fakeDaemon) RemoveImage(_ context.Context, ref string) error {
	return errors.New(ref + " is in use")
}
func (fakeDaemon) ExportImage(_ context.Context, ref string, to io.Writer) error {
	_, err := io.WriteString(to, "tar of "+ref)
	return err
}

// A daemon that is being killed still takes calls for a moment, and drops them when its files are closed.
func TestDaemonEndsBeforeItAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1)) // what is left unread makes it a reset
			_ = conn.Close()
		}
	}()
	c := NewClient(socket)
	if err := c.Stop(t.Context()); !errors.Is(err, ErrEnded) {
		t.Errorf("stop: %v", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrEnded) {
		t.Errorf("status: %v", err)
	}
}

// A daemon that drops the connection before it has read anything of the call: net/http then has an error of its own.
func TestDaemonEndsBeforeItReads(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for range 2000 {
		if err := NewClient(socket).Stop(t.Context()); !errors.Is(err, ErrEnded) {
			t.Fatalf("stop: %v", err)
		}
	}
}

func TestClientAndServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c.sock")
	c := NewClient(socket)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("with no daemon: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := fakeDaemon{stopped: make(chan struct{})}
	served := make(chan error)
	go func() { served <- Serve(ctx, socket, d) }()
	eventually(t, func() bool { _, err := c.Status(t.Context()); return err == nil })

	if s, err := c.Status(t.Context()); err != nil || s.PID != 7 || !s.Ready {
		t.Errorf("status: %+v, %v", s, err)
	}
	if steps, err := c.Trace(t.Context(), "default", "web"); err != nil || len(steps) != 1 || steps[0].Took != time.Millisecond {
		t.Errorf("trace: %+v, %v", steps, err)
	}
	if _, err := c.Trace(t.Context(), "default", "other"); err == nil || err.Error() != "no Pod default/other" {
		t.Errorf("trace of another: %v", err)
	}
	var lines []string
	if i, err := c.PullImage(t.Context(), "web:1", func(l string) { lines = append(lines, l) }); err != nil || i.ID != "web:1" || len(lines) != 1 {
		t.Errorf("pull: %+v, %v, %v", i, lines, err)
	}
	if _, err := c.PullImage(t.Context(), "bad", func(string) {}); err == nil || err.Error() != "not found" {
		t.Errorf("bad pull: %v", err)
	}
	if err := c.RemoveImage(t.Context(), "web:1"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("remove: %v", err)
	}
	var tar bytes.Buffer
	if err := c.ExportImage(t.Context(), "web:1", &tar); err != nil || tar.String() != "tar of web:1" {
		t.Errorf("export: %q, %v", tar.String(), err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	<-d.stopped
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("never came true")
		case <-time.After(time.Millisecond):
		}
	}
}
