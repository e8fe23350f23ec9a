package client

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/shimtest"
)

// openOf lists the descriptors of a process with what they lead to.
func openOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[e.Name()] = to
		}
	}
	return open
}

// ofHost reports whether a descriptor of a container's process leads to a file that is not the container's: neither a
// pipe nor a socket, nor what is at the same path inside the container.
func ofHost(pid int, fd, to string) bool {
	if strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") {
		return false
	}
	var file, inside unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%s", pid, fd), &file); err != nil {
		return false // closed
	}
	err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", pid, to), &inside)
	return err != nil || file.Dev != inside.Dev || file.Ino != inside.Ino
}

func checkReach(t *testing.T, what string, pid int) {
	t.Helper()
	for fd, to := range openOf(t, pid) {
		if ofHost(pid, fd, to) {
			t.Errorf("descriptor %s of %s is the host's %s", fd, what, to)
		}
	}
}

// TestReach looks at what the processes of a Pod have of the host: of a container's first process, of one that was
// started in it with and without a terminal, and of pause. The shim is started by a program that was left a
// descriptor, blocked signals and a umask of its own.
func TestReach(t *testing.T) {
	w := newWorld(t)
	leaked := t.TempDir()
	leak, err := unix.Open(leaked, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	before := unix.Umask(0o077)
	sh, st, err := w.Launcher().Launch(t.Context(), w.Sandbox(t))
	unix.Umask(before)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sh.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		_ = sh.Close()
	}()
	for fd := range openOf(t, st.PausePID) {
		if fd != "3" {
			t.Errorf("pause has descriptor %s, it needs its lifeline alone", fd)
		}
	}
	checkReach(t, "pause", st.PausePID)
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", st.PausePID)); !strings.HasPrefix(exe, "/memfd:") {
		t.Errorf("pause runs %s, a file that every other Pod's pause is started from", exe)
	}
	if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/exe", st.PausePID), os.O_WRONLY, 0); err == nil {
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("pause's program was written to while it runs")
		}
		_ = f.Close()
	}
	if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", st.PausePID)); err != nil || len(environ) > 0 {
		t.Errorf("pause has the environment %q, %v", environ, err)
	}
	for fd, to := range openOf(t, st.ShimPID) {
		if to == leaked {
			t.Errorf("the shim has descriptor %s of whatever started the daemon: %s", fd, to)
		}
	}

	b := shimtest.Behaviour{Forever: true}
	req := w.Container(t, b)
	res, err := sh.Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	checkReach(t, "the container's first process", res.PID)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	plain, err := sh.Exec(t.Context(), shim.ExecRequest{Container: req.ID, ID: "plain", Args: w.Exec(b)}, null, out, out)
	if err != nil {
		t.Fatal(err)
	}
	checkReach(t, "an exec", plain.PID)
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", plain.PID)); err != nil || !strings.Contains(string(status), "Umask:\t0022") || !strings.Contains(string(status), "SigBlk:\t0000000000000000") {
		t.Errorf("an exec has a umask or blocked signals of whatever started the daemon: %s, %v", status, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	console := os.NewFile(uintptr(pair[1]), "console")
	defer console.Close()
	defer syscall.Close(pair[0])
	term, err := sh.Exec(t.Context(), shim.ExecRequest{Container: req.ID, ID: "term", Args: w.Exec(b), TTY: true}, console)
	if err != nil {
		t.Fatal(err)
	}
	checkReach(t, "an exec with a terminal", term.PID)
}

// TestSeccompProgramKept has the second container find the program that was compiled for the first.
func TestSeccompProgramKept(t *testing.T) {
	w := newWorld(t)
	sh, _, err := w.Launcher().Launch(t.Context(), w.Sandbox(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sh.Stop(t.Context())
		_ = sh.Close()
	}()
	var kept os.FileInfo
	for i := range 2 {
		req := w.Container(t, shimtest.Behaviour{Forever: true})
		res, err := sh.Run(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", res.PID))
		if err != nil || !strings.Contains(string(status), "Seccomp:\t2") {
			t.Errorf("container %d: no filter: %v", i, err)
		}
		found, _ := filepath.Glob(filepath.Join(w.dir, "seccomp", "*"))
		if len(found) != 1 {
			t.Fatalf("container %d: kept programs = %v", i, found)
		}
		st, err := os.Stat(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if kept != nil && !os.SameFile(kept, st) {
			t.Error("the program was compiled again")
		}
		kept = st
	}
}
