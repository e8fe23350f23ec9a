package logrotate

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/logfile"
)

func TestDecide(t *testing.T) {
	for name, tc := range map[string]struct {
		old, remove, compress []string
	}{
		"none":              {},
		"one":               {old: []string{"l.1"}, compress: []string{"l.1"}},
		"too many":          {old: []string{"l.4", "l.1.gz", "l.2.gz", "l.3.gz"}, remove: []string{"l.1.gz"}, compress: []string{"l.4"}},
		"half compressed":   {old: []string{"l.1", "l.1.tmp"}, remove: []string{"l.1.tmp"}, compress: []string{"l.1"}},
		"not yet taken off": {old: []string{"l.1", "l.1.gz"}, remove: []string{"l.1"}},
	} {
		remove, compress := decide(tc.old, 5, true)
		if !slices.Equal(remove, tc.remove) || !slices.Equal(compress, tc.compress) {
			t.Errorf("%s: remove %v, compress %v", name, remove, compress)
		}
	}
}

// What the shim put aside is tidied up without the log being full: the newest stays as it is.
func TestDecideBetweenRotations(t *testing.T) {
	old := []string{"l.1.gz", "l.2", "l.3", "l.4", "l.5"}
	remove, compress := decide(old, 5, false)
	if !slices.Equal(remove, []string{"l.1.gz"}) || !slices.Equal(compress, []string{"l.2", "l.3", "l.4"}) {
		t.Errorf("remove %v, compress %v", remove, compress)
	}
}

// The shim puts a log aside while the node looks: no line and no file is lost for that, and no error comes of it.
func TestRotateBesideTheShim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local)
	newest := ""
	for i := range 4 { // all in the same second, as in a flood
		newest = logfile.Next(path, newest, now)
		if err := os.WriteFile(newest, []byte{'0' + byte(i), '\n'}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("4\n5\n6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Runtime: &fakeRuntime{path: path}, MaxSize: 4, MaxFiles: 5, Clock: clocktesting.NewFakeClock(now)})
	if err := r.rotateAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	aside, err := logfile.Aside(path)
	if err != nil || len(aside) != 4 {
		t.Fatalf("put aside: %v (%v)", aside, err)
	}
	if got, _ := os.ReadFile(aside[3]); string(got) != "4\n5\n6\n" {
		t.Errorf("the newest is %q", got)
	}
	if err := gone(compressFile(path + ".not-there")); err != nil {
		t.Errorf("a file that the shim has removed: %v", err)
	}
}

// fakeRuntime has one running container and opens its log again when asked.
type fakeRuntime struct {
	internalapi.RuntimeService
	path   string
	reopen error
}

func (f *fakeRuntime) ListContainers(context.Context, *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	return []*runtimeapi.Container{{Id: "c"}}, nil
}

func (f *fakeRuntime) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{LogPath: f.path}}, nil
}

func (f *fakeRuntime) ReopenContainerLog(context.Context, string) error {
	if f.reopen != nil {
		return f.reopen
	}
	return os.WriteFile(f.path, nil, 0o600)
}

func TestRotateKeepsEveryLineAndAtMostMaxFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	r := New(Config{Runtime: &fakeRuntime{path: path}, MaxSize: 4, MaxFiles: 3, Clock: clock})
	for round := range 5 {
		if err := os.WriteFile(path, []byte{'r', '0' + byte(round), '\n', '\n'}, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.rotateAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		clock.Step(time.Second)
	}
	files, _ := filepath.Glob(path + "*")
	if len(files) != 3 {
		t.Fatalf("files: %v", files)
	}
	if got, _ := os.ReadFile(files[2]); string(got) != "r4\n\n" {
		t.Errorf("the newest old log is %q", got)
	}
	f, err := os.Open(files[1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(z); string(got) != "r3\n\n" {
		t.Errorf("the compressed log is %q", got)
	}
}

func TestRotateLosesNothingWhenTheRuntimeFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Runtime: &fakeRuntime{path: path, reopen: errors.New("shim gone")}, MaxSize: 1, MaxFiles: 2, Clock: clocktesting.NewFakeClock(time.Now())})
	if err := r.rotateAll(t.Context()); err == nil {
		t.Error("no error")
	}
	if got, _ := os.ReadFile(path); string(got) != "line\n" {
		t.Errorf("the log is %q", got)
	}
}

func TestSmallLogStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Runtime: &fakeRuntime{path: path}, MaxSize: 100, MaxFiles: 2, Clock: clocktesting.NewFakeClock(time.Now())})
	if err := r.rotateAll(t.Context()); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(path + ".*"); files != nil {
		t.Errorf("rotated: %v", files)
	}
}
