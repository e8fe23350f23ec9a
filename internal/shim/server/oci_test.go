package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podium.dev/podium/internal/shim"
)

// A process whose start is held up by another process of the Pod is given up.
func TestStartThatIsHeldUp(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "podium-oci")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := newServer()
	s.programs.OCI, s.startTimeout = program, 50*time.Millisecond
	_, err = s.oci(dir, ociRequest{ID: "c"}, []*os.File{null, null, null}, false)
	var start *shim.StartError
	if !errors.As(err, &start) || !strings.Contains(err.Error(), "not started within") {
		t.Errorf("the start ended with %v", err)
	}
}
