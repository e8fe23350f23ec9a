package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// unified is where cgroup v2 is mounted, with or without controllers.
func unified(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("cgroup v2 is not mounted")
	return ""
}

// TestKernelFileWakes holds that a change of a cgroup v2 file ends a wait on it, with one that every such cgroup has.
func TestKernelFileWakes(t *testing.T) {
	dir := filepath.Join(unified(t), fmt.Sprintf("podium-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	events := filepath.Join(dir, "cgroup.events")
	f, err := openNonblocking(events)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan uint64, 16)
	over := make(chan error, 1)
	go func() {
		over <- raw.Read(func(fd uintptr) bool {
			if drain(fd) {
				t.Error("a file was taken for an eventfd")
			}
			seen <- valueOf(events, "populated ")
			return false
		})
	}()
	await := func(want uint64) {
		t.Helper()
		for end := time.After(10 * time.Second); ; {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-end:
				t.Fatalf("populated %d was not noticed", want)
			}
		}
	}
	await(0)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	await(1)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	await(0)
	_ = f.Close()
	if err := <-over; err == nil {
		t.Error("the wait ended without an error")
	}
}

// TestNoticeBeforeKill has the notice come before the count has risen, as on cgroup v1, and then both at once.
func TestNoticeBeforeKill(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name+".new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
	write("memory.limit_in_bytes", "1000\n")
	write("memory.max_usage_in_bytes", "990\n")
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{"memory": dir}
	told := make(chan shim.Memory, 16)
	w := &oomWatch{
		dirs: dirs, file: countOf(dirs), wake: os.NewFile(uintptr(fd), "eventfd"), over: make(chan struct{}),
		tell: func(m shim.Memory) { told <- m },
	}
	go w.run()
	notice := func() {
		t.Helper()
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(kills uint64) {
		t.Helper()
		select {
		case m := <-told:
			if m != (shim.Memory{Kills: kills, Limit: 1000, Peak: 990}) {
				t.Errorf("told %+v", m)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("kill %d was not told of", kills)
		}
	}
	notice()
	write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
	expect(1)
	write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
	notice()
	expect(3)
	write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
	if m := w.stop(); m == nil || m.Kills != 4 {
		t.Errorf("in the end %+v", m)
	}
	expect(4)
}

func TestMemoryOf(t *testing.T) {
	root := t.TempDir()
	v2 := filepath.Join(root, "kubepods/podX/main")
	if err := os.MkdirAll(v2, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"kubepods/memory.max": "max\n", "kubepods/podX/memory.max": "4096\n", "kubepods/podX/main/memory.max": "max\n",
		"kubepods/podX/main/memory.peak": "2048\n", "kubepods/podX/main/memory.events": "low 0\noom 1\noom_kill 2\noom_group_kill 1\n",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dirs := map[string]string{"": v2}
	if got := valueOf(countOf(dirs), "oom_kill "); got != 2 {
		t.Errorf("kills = %d", got)
	}
	if got := memoryOf(dirs, 2); got != (shim.Memory{Kills: 2, Above: 4096, Peak: 2048}) {
		t.Errorf("memory = %+v", got)
	}
	if got := memoryOf(map[string]string{"": filepath.Join(root, "gone")}, 1); got != (shim.Memory{Kills: 1}) {
		t.Errorf("of a cgroup that is gone = %+v", got)
	}
}
