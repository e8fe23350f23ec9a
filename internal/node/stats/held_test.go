package stats

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const holderVariable = "PODIUM_TEST_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderVariable); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// hold is a process of a Pod with nameless files, each a power of two of MiB, in all sorts of places. It says when it
// has them, and ends with its input.
func hold(dir string) error {
	mounts := []struct{ source, at, kind, options string }{
		{filepath.Join(dir, "kubelet/pods/uid/volumes/kubernetes.io~empty-dir/own"), "own", "", ""},
		{filepath.Join(dir, "host"), "host", "", ""},
		{"overlay", "layer", "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)},
		{"tmpfs", "memory", "tmpfs", ""},
		{filepath.Join(dir, "kubelet/pods/uid/volumes/kubernetes.io~empty-dir/own"), "detached", "", ""},
	}
	for _, m := range mounts {
		flags := uintptr(0)
		if m.kind == "" {
			flags = unix.MS_BIND
		}
		if err := unix.Mount(m.source, filepath.Join(dir, m.at), m.kind, flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	open := func(at string, mebibytes int) (*os.File, error) {
		path := filepath.Join(dir, at, fmt.Sprint("file", mebibytes))
		file, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write(make([]byte, mebibytes<<20)); err != nil {
			return nil, err
		}
		return file, os.Remove(path)
	}
	var kept []*os.File
	for at, size := range map[string]int{"own": 1, "layer": 2, "memory": 4, "host": 8, "detached": 16} {
		file, err := open(at, size)
		if err != nil {
			return err
		}
		kept = append(kept, file, file)
	}
	if err := unix.Unmount(filepath.Join(dir, "detached"), unix.MNT_DETACH); err != nil {
		return err
	}
	mapped, err := open("layer", 32)
	if err != nil {
		return err
	}
	if _, err := unix.Mmap(int(mapped.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	if err := mapped.Close(); err != nil {
		return err
	}
	failed := make(chan error)
	go func() {
		goruntime.LockOSThread() // the descriptors from here on are this thread's alone
		err := unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			var file *os.File
			file, err = open("layer", 64)
			kept = append(kept, file)
		}
		failed <- err
		select {}
	}()
	if err := <-failed; err != nil {
		return err
	}
	fmt.Println("holding")
	_, _ = os.Stdin.Read(make([]byte, 1))
	goruntime.KeepAlive(kept)
	os.Exit(0)
	return nil
}

// Files without a name count while a process of the Pod holds them, by descriptor, by a descriptor of one thread, or
// mapped; and only those on the Pod's own storage.
func TestFilesHeldWithoutAName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts are made by root")
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "kubelet/pods/uid/volumes/kubernetes.io~empty-dir/own")
	for _, name := range []string{own, dir + "/own", dir + "/host", dir + "/layer", dir + "/memory", dir + "/lower", dir + "/upper", dir + "/work", dir + "/detached"} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The overlay needs a file system that can be its upper layer.
	if err := unix.Mount("tmpfs", dir+"/kubelet", "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir+"/kubelet", unix.MNT_DETACH) })
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holderVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	if line, _ := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "holding") {
		t.Skip("the process cannot make its mounts:", line)
	}
	began := time.Now()
	rest, volumes, err := countHeld(t.Context(), []int{cmd.Process.Pid, 1 << 30, os.Getpid()}, "uid", filepath.Join(dir, "kubelet/pods/uid"))
	if err != nil {
		t.Fatal(err)
	}
	t.Log("counted in", time.Since(began))
	if got := rest.Bytes >> 20; got != 2+16+32+64 || rest.Inodes != 4 {
		t.Errorf("%d MiB, %d files: want the layer's 2, the detached volume's 16, the mapped 32 and the thread's 64 MiB", got, rest.Inodes)
	}
	if got := volumes["own"]; got.Bytes>>20 != 1 || got.Inodes != 1 || len(volumes) != 1 {
		t.Errorf("volumes: %v", volumes)
	}
}

func TestNamesOfMappings(t *testing.T) {
	for span, want := range map[string]string{"00400000-00452000": "400000-452000", "7f00a000-7f00b000": "7f00a000-7f00b000", "0000-1000": "0-1000"} {
		if got := mapName(span); got != want {
			t.Errorf("%s: %s, want %s", span, got, want)
		}
	}
}
