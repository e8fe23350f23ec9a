package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/pod"
)

// A Pod may mount a volume of its own at the path of its termination message.
func TestTerminationMessageOfAHostileContainer(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		unix.Mkfifo(path("fifo"), 0o666), os.WriteFile(path("secret"), []byte("host"), 0o600), os.Symlink("secret", path("link")),
		os.WriteFile(path("sparse"), nil, 0o600), os.Truncate(path("sparse"), 1<<40),
		os.WriteFile(path("file"), []byte(strings.Repeat("x", pod.MaxMessage)+"end"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"fifo": "not a regular file", "link": "not a regular file", "sparse": "\x00", "file": "xend"} {
		status := &runtimeapi.ContainerStatus{Mounts: []*runtimeapi.Mount{{ContainerPath: "/dev/termination-log", HostPath: path(name)}}}
		words, _ := messageFile(status, "/dev/termination-log")
		if !strings.HasSuffix(words, want) || len(words) > pod.MaxMessage {
			t.Errorf("%s: %d bytes that do not end with %q", name, len(words), want)
		}
	}
}
