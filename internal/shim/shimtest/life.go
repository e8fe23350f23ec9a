package shimtest

import (
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

func reconnect(t *testing.T, w World) {
	spec := w.Sandbox(t)
	first, started, err := w.Launcher().Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	stays, ends := w.Container(t, Behaviour{Forever: true}), w.Container(t, Behaviour{Output: "bye\n", ExitCode: 5})
	res := run(t, first, stays)
	run(t, first, ends)
	if err := first.Close(); err != nil { // the daemon is gone, the rest goes on
		t.Error(err)
	}
	second, err := w.Launcher().Connect(t.Context(), spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	st, err := second.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Sandbox.PausePID != started.PausePID || !st.Sandbox.StartedAt.Equal(started.StartedAt) || len(st.Containers) != 2 {
		t.Errorf("state = %+v, started as %+v", st, started)
	}
	for _, c := range st.Containers {
		switch {
		case c.ID == stays.ID && (c.Exit != nil || c.Result.PID != res.PID):
			t.Errorf("the running container = %+v", c)
		case c.ID == ends.ID && c.Exit == nil:
			if e := event(t, second); e.Container != ends.ID || e.Exit.Code != 5 {
				t.Errorf("event = %+v", e)
			}
		}
	}
	var kept shim.Exit
	if err := json.Unmarshal([]byte(read(t, ends.ExitFile)), &kept); err != nil || kept.Code != 5 {
		t.Errorf("exit file = %+v, %v", kept, err)
	}
	if got := content(t, ends.LogPath); got != "stdout F bye\n" {
		t.Errorf("log = %q", got)
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func runTwice(t *testing.T, w World) {
	sh := sandbox(t, w)
	req := w.Container(t, Behaviour{Forever: true})
	if a, b := run(t, sh, req), run(t, sh, req); a.PID != b.PID {
		t.Errorf("asked twice, it runs as %d and %d", a.PID, b.PID)
	}
}

func stopKills(t *testing.T, w World) {
	spec := w.Sandbox(t)
	sh, _, err := w.Launcher().Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	req := w.Container(t, Behaviour{Forever: true, IgnoreTerm: true})
	run(t, sh, req)
	if err := sh.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, ok := <-sh.Events(); !ok || e.Container != req.ID || e.Exit.Signal != int(unix.SIGKILL) {
		t.Errorf("event = %+v, %v", e, ok)
	}
	var kept shim.Exit
	if err := json.Unmarshal([]byte(read(t, req.ExitFile)), &kept); err != nil || kept.Code != 137 {
		t.Errorf("exit file = %+v, %v", kept, err)
	}
	if _, err := w.Launcher().Connect(t.Context(), spec.Dir); err == nil {
		t.Error("a stopped shim still answers")
	}
}

func forget(t *testing.T, w World) {
	sh := sandbox(t, w)
	runs, ended := w.Container(t, Behaviour{Forever: true}), w.Container(t, Behaviour{})
	run(t, sh, runs)
	run(t, sh, ended)
	event(t, sh)
	if err := sh.Forget(t.Context(), runs.ID); err == nil {
		t.Error("a running container was forgotten")
	}
	for range 2 {
		if err := sh.Forget(t.Context(), ended.ID); err != nil {
			t.Error(err)
		}
	}
	if st, err := sh.State(t.Context()); err != nil || len(st.Containers) != 1 || st.Containers[0].ID != runs.ID {
		t.Errorf("state = %+v, %v", st, err)
	}
}
