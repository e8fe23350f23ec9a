package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// namespaceOf returns the inode of a process's namespace, 0 when it has ended.
func namespaceOf(pid int, kind string) uint64 {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st) != nil {
		return 0
	}
	return st.Ino
}

// inNamespace returns the processes of the machine that are in a PID namespace.
func inNamespace(pidns uint64) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && namespaceOf(pid, "pid") == pidns {
			out = append(out, pid)
		}
	}
	return out
}

// foreign returns the descriptors of a process that lead out of the Pod. Within it are pipes, sockets, what the kernel makes
// without a file, memory that is sealed, a null device that nobody else has, and what is at the same path inside the
// container, the process's own or the given one. So is the helper's own program, as far as nobody can write to it.
func foreign(pid, container int) []string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	roots := []int{container}
	if ns := namespaceOf(pid, "mnt"); ns != namespaceOf(os.Getpid(), "mnt") {
		roots = append(roots, pid)
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		to, err := os.Readlink(path)
		if err != nil || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:") {
			continue
		}
		var file unix.Stat_t
		if unix.Stat(path, &file) != nil || strings.HasPrefix(to, "/memfd:") && sealed(path) {
			continue
		}
		if file.Rdev == unix.Mkdev(1, 3) && file.Nlink == 0 || to == "/podium-oci" && readOnly(path) {
			continue
		}
		inside := func(root int) bool {
			var at unix.Stat_t
			err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", root, to), &at)
			return err == nil && at.Dev == file.Dev && at.Ino == file.Ino
		}
		if again, err := os.Readlink(path); err == nil && again == to && !slices.ContainsFunc(roots, inside) {
			out = append(out, e.Name()+" → "+to)
		}
	}
	return out
}

// readOnly reports whether a file cannot be opened for writing, not even by root, because its mount is read-only.
func readOnly(path string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrNotExist) // it was closed
}

// sealed reports whether a file in memory can be changed by nobody.
func sealed(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true // it was closed
	}
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0 && seals&unix.F_SEAL_SEAL != 0
}

// No process that other processes of a Pod can see has a descriptor that leads out of the Pod: not pause, not a
// container's first process, not one that is started in it, with or without a terminal, and not the helper while it starts
// one.
func TestHostileDescriptors(t *testing.T) {
	s := newSpace(t)
	p := shellPod("shared", "exec sleep 3600", "exec sleep 3600")
	yes := true
	p.Spec.ShareProcessNamespace = &yes
	p.Spec.Containers[1].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_PTRACE"}}}
	s.create(p)
	p = s.awaitRunning("shared")
	container := pidOf(s, p, "container")
	pidns := namespaceOf(container, "pid")
	if pause := pidOf(s, p, "pause"); namespaceOf(pause, "pid") != pidns {
		s.Fatal("the Pod does not share its PID namespace")
	}

	found := map[string]bool{}
	looked := map[int]bool{}
	look := func() {
		for _, pid := range inNamespace(pidns) {
			looked[pid] = true
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			for _, fd := range foreign(pid, container) {
				found[strings.TrimSpace(string(name))+": "+fd] = true
			}
		}
	}
	look()
	held := [][]string{{"exec", "shared", "-c", "c0", "--", "sleep", "0.2"}, {"exec", "-t", "shared", "-c", "c0", "--", "sleep", "0.2"}}
	for i := range 6 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.try(held[i%2]...)
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
				look()
			}
		}
	}
	if len(looked) < 3+6 {
		s.Errorf("only %d processes were seen: pause, two containers and six that were started in one are there", len(looked))
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s.Errorf("a process of the Pod has a descriptor that leads out of it: %s", name)
	}
}

// What the shell that runs podium up has open is that shell's: neither the daemon nor the shim, pause and containers that
// outlive it have it.
func TestHostileDescriptorsOfTheShell(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Descriptors without O_CLOEXEC are what a shell's «exec 7<file» leaves to all that it starts.
	fd, err := unix.Open(secret, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	n := ownNode(t)
	unix.Close(fd)
	unix.Close(high)
	s := newSpaceOn(t, n)
	s.create(shellPod("web", "exec sleep 3600"))
	p := s.awaitRunning("web")
	pids := map[string]int{"the daemon": n.pid(t)}
	for _, which := range []string{"container", "pause", "shim"} {
		pids["the "+which] = pidOf(s, p, which)
	}
	for what, pid := range pids {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			s.Error(err)
		}
		for _, e := range entries {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); to == secret {
				s.Errorf("%s has descriptor %s of the shell: %s", what, e.Name(), to)
			}
		}
	}
}

// The Pod's /dev/shm runs no programs and gives neither rights nor devices; the machine's, which a Pod with hostIPC has, gives
// neither rights nor devices either.
func TestHostileSharedMemory(t *testing.T) {
	s := newSpace(t)
	const (
		prepare = `cp "$(command -v bash)" $0; chmod 4755 $0; mknod $0-null c 1 3; chmod 666 $0-null`
		try     = `grep ' /dev/shm ' /proc/self/mountinfo | cut -d' ' -f6
$0 -p -c 'echo runs as $EUID' 2>/dev/null || echo runs not
if head -c1 $0-null >/dev/null 2>&1; then echo device; else echo no device; fi`
	)
	file := "/dev/shm/podium-test-" + s.ns
	t.Cleanup(func() {
		for _, f := range []string{file, file + "-null"} {
			if err := os.Remove(f); err != nil {
				t.Error(err)
			}
		}
	})
	user := int64(1000)
	for name, want := range map[string]struct{ options, rest string }{
		"own": {"nosuid,nodev,noexec", "runs not\nno device\n"}, "host": {"nosuid,nodev", "runs as 1000\nno device\n"},
	} {
		p := shellPod(name, "")
		p.Spec.RestartPolicy, p.Spec.HostIPC = corev1.RestartPolicyNever, name == "host"
		p.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: shellImage, Command: []string{"sh", "-c", prepare, file}}}
		p.Spec.Containers[0].Command = []string{"sh", "-c", try, file}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: &user}
		s.create(p)
		s.awaitPhase(name, corev1.PodSucceeded)
		options, rest, _ := strings.Cut(s.kubectl("logs", name, "-c", "c0"), "\n")
		for _, o := range strings.Split(want.options, ",") {
			if !slices.Contains(strings.Split(options, ","), o) {
				s.Errorf("%s: /dev/shm is mounted %s, want %s", name, options, o)
			}
		}
		if rest != want.rest {
			s.Errorf("%s: %q, want %q", name, rest, want.rest)
		}
	}
}
