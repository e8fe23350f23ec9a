package container

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNotesAreReadBack(t *testing.T) {
	pod := newPod()
	pod.DeletionGracePeriodSeconds, pod.Spec.TerminationGracePeriodSeconds = ptr[int64](5), ptr[int64](30)
	c := &pod.Spec.Containers[0]
	c.TerminationMessagePath, c.TerminationMessagePolicy = "/m", v1.TerminationMessageFallbackToLogsOnError
	c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"bye"}}}}
	c.Ports = []v1.ContainerPort{{Name: "web", ContainerPort: 80}}
	got := NotesOf(ContainerLabels(pod, "c"), ContainerAnnotations(pod, c, 7))
	want := Notes{
		Pod: PodRef{"p", "ns", "uid"}, Container: "c", Hash: Hash(c), RestartCount: 7,
		DeletionGracePeriod: ptr[int64](5), TerminationGracePeriod: ptr[int64](30),
		TerminationMessagePath: "/m", TerminationMessagePolicy: v1.TerminationMessageFallbackToLogsOnError,
		PreStop: c.Lifecycle.PreStop, Ports: c.Ports,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := NotesOf(nil, map[string]string{annotationHash: "zz", annotationPorts: "{", annotationRestartCount: "x"}); !reflect.DeepEqual(got, Notes{}) {
		t.Errorf("of nonsense %+v", got)
	}
	changed := *c
	changed.Image = "image:2"
	if Hash(c) == Hash(&changed) {
		t.Error("another image has the same hash")
	}
}

func TestLogs(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	if got := r.NextAttempt(pod, "c"); got != 0 {
		t.Errorf("without logs %d", got)
	}
	dir := filepath.Join(r.PodLogDir(pod), "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0.log", "3.log.20260101-000000.gz", "x.log", "12.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.NextAttempt(pod, "c"); got != 4 {
		t.Errorf("after three restarts %d", got)
	}
	sandbox := &runtimeapi.PodSandboxConfig{LogDirectory: r.PodLogDir(pod)}
	config := &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, LogPath: "c/0.log", Labels: ContainerLabels(pod, "c")}
	for range 2 {
		if err := r.LinkLog(sandbox, config, "id"); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(r.cfg.Paths.ContainerLogs, "p_ns_c-id.log")
	if target, err := os.Readlink(link); err != nil || target != filepath.Join(dir, "0.log") {
		t.Errorf("link to %s, %v", target, err)
	}
	if err := r.SweepLogLinks(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error("a good link was swept away")
	}
	if err := os.Remove(filepath.Join(dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	if err := r.SweepLogLinks(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Error("a dead link is left")
	}
	for range 2 {
		if err := r.UnlinkLog(config.Labels, "id"); err != nil {
			t.Fatal(err)
		}
	}
	if got := filepath.Base(r.logLink(PodRef{Name: strings.Repeat("x", 253)}, "c", "id")); len(got) != 255 || !strings.HasSuffix(got, ".log") {
		t.Errorf("a long name becomes %d bytes", len(got))
	}
}

func TestEnvFile(t *testing.T) {
	dir := t.TempDir()
	content := "# comment\n\n  A='1' # one\nB='two\nlines'\nC= 'x'\nD=''\n"
	if err := os.WriteFile(filepath.Join(dir, "env"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"A": "1", "B": "two\nlines", "C": "", "D": "", "E": ""} {
		if got, err := envFileValue(dir, "env", key); err != nil || got != want {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	for content, want := range map[string]string{
		"A":        "invalid environment variable format at line 1: missing '='",
		"\n='x'":   "invalid environment variable format at line 2: empty variable name",
		"A ='x'":   "invalid environment variable format at line 1: whitespace before '=' is not allowed",
		"A=x":      "invalid environment variable format at line 1: value must be enclosed in single quotes",
		"A='x' y":  "invalid environment variable format at line 1: unexpected content after closing quote",
		"\nA='x\n": "invalid environment variable format starting at line 2: unclosed single quote",
	} {
		if _, err := parseEnvFile(content, "Z"); err == nil || err.Error() != want {
			t.Errorf("%q: %v", content, err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("A='stolen'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := envFileValue(dir, "link", "A"); err == nil {
		t.Errorf("a link led out of the volume: %q", got)
	}
}
