package app

import (
	"net"

	"os"
	"path/filepath"
	"testing"

	"podium.dev/podium/internal/paths"
)

func TestPurgeLeavesWhatOthersLogged(t *testing.T) {
	p := paths.For(t.TempDir())
	p.PodLogs, p.ContainerLogs = filepath.Join(t.TempDir(), "pods"), filepath.Join(t.TempDir(), "containers")
	ours, theirs := filepath.Join(p.PodLogs, "default_web_uid-1"), filepath.Join(p.PodLogs, "default_web_uid-2")
	for _, dir := range []string{filepath.Join(p.Kubelet, "pods", "uid-1"), ours, theirs, p.ContainerLogs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"ours.log": ours, "theirs.log": theirs, "stray.log": "/nowhere/else"} {
		if err := os.Symlink(to, filepath.Join(p.ContainerLogs, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := purgeFolders(p); err != nil {
		t.Fatal(err)
	}
	for path, stays := range map[string]bool{
		ours: false, theirs: true, p.Root: false,
		filepath.Join(p.ContainerLogs, "ours.log"): false, filepath.Join(p.ContainerLogs, "theirs.log"): true, filepath.Join(p.ContainerLogs, "stray.log"): true,
	} {
		if _, err := os.Lstat(path); (err == nil) != stays {
			t.Errorf("%s: there %v, want %v", path, err == nil, stays)
		}
	}
}

// A daemon that is dying under memory pressure drops the call to stop: that is as good as an answer.
func TestStopDaemonThatIsDying(t *testing.T) {
	p := paths.Paths{Root: t.TempDir(), ControlSocket: filepath.Join(t.TempDir(), "c.sock")}
	l, err := net.Listen("unix", p.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		_ = l.Close() // with the socket
		if err == nil {
			_ = conn.Close()
		}
	}()
	if err := stopDaemon(t.Context(), p, func(line string) { t.Errorf("progress %q", line) }); err != nil {
		t.Error(err)
	}
}
