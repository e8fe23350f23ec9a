package fake

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/shimtest"
)

func TestContract(t *testing.T) {
	shimtest.Run(t, func(t *testing.T) shimtest.World { return &world{launcher: &Launcher{}, dir: t.TempDir()} })
}

type world struct {
	launcher *Launcher
	dir      string
	n        atomic.Int32
}

func (w *world) Launcher() shim.Launcher { return w.launcher }

func (w *world) Sandbox(t *testing.T) shim.SandboxSpec {
	return shim.SandboxSpec{ID: fmt.Sprint(w.n.Add(1)), Dir: t.TempDir()}
}

func (w *world) Container(t *testing.T, b shimtest.Behaviour) shim.RunRequest {
	dir := t.TempDir()
	id := fmt.Sprintf("c%d", w.n.Add(1))
	err := bundle.Write(dir, &bundle.Bundle{ID: id, Spec: &specs.Spec{Process: &specs.Process{Args: w.Exec(b)}}})
	if err != nil {
		t.Fatal(err)
	}
	return shim.RunRequest{ID: id, Dir: dir, LogPath: filepath.Join(dir, "0.log"), ExitFile: filepath.Join(dir, "exit.json")}
}

func (w *world) Exec(b shimtest.Behaviour) []string {
	s := Script{Output: b.Output, Errors: b.Errors, Echo: b.Echo, Forever: b.Forever, IgnoreTerm: b.IgnoreTerm, ExitCode: b.ExitCode}
	if b.StartError {
		s.StartError = `exec: "nosuch": executable file not found in $PATH`
	}
	return s.Args()
}
