package client

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/shimtest"
	"podium.dev/podium/test/pace"
)

func TestContract(t *testing.T) {
	shimtest.Run(t, func(t *testing.T) shimtest.World { return newWorld(t) })
}

// built are the programs under test, as hack/build-shim.sh makes them.
func built(t *testing.T) Programs {
	t.Helper()
	dir, err := filepath.Abs("../embedded")
	if err != nil {
		t.Fatal(err)
	}
	in := func(n string) string { return filepath.Join(dir, n+".bin") }
	return Programs{Shim: in("shim"), OCI: in("oci"), Pause: in("pause")}
}

// world runs real containers of busybox.
type world struct {
	launcher         *Launcher
	cgroups          *cgroup.Manager
	dir, private, id string
	pause            atomic.Int64
	n                atomic.Int32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (apt-get install busybox-static)")
	}
	l, err := NewLauncher(built(t))
	if err != nil {
		t.Skipf("%v (run hack/build-shim.sh)", err)
	}
	w := &world{launcher: l, dir: t.TempDir(), id: fmt.Sprintf("podium-test-%d", os.Getpid())}
	if w.cgroups, err = cgroup.New("/" + w.id); err != nil {
		t.Skip(err)
	}
	w.private = filepath.Join(w.dir, "private")
	mkdir(t, w.private)
	if err := unix.Mount("tmpfs", w.private, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.clean(t) })
	if err := unix.Mount("", w.private, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{bundle.RootfsDir, bundle.ShmDir, bundle.ImagesDir} {
		mkdir(t, filepath.Join(w.private, d))
	}
	mkdir(t, filepath.Join(w.dir, "lower/bin"))
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "lower/bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// clean checks that nothing of the test is left.
func (w *world) clean(t *testing.T) {
	if err := w.cgroups.Kill(context.Background(), "/"); err != nil {
		t.Error(err)
	}
	if err := w.cgroups.Remove("/"); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(w.private, 0); err != nil {
		t.Errorf("unmount %s: %v", w.private, err)
	}
	netns, _ := filepath.Glob(filepath.Join(w.dir, "netns-*"))
	for _, f := range netns {
		if err := unix.Unmount(f, 0); err != nil {
			t.Errorf("unmount %s: %v", f, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), w.dir) {
		t.Errorf("mounts are left in %s:\n%s", w.dir, mounts)
	}
	var left []string
	for end := time.Now().Add(pace.Of(5 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left, err = processesIn(w.dir); err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("processes are left: %v", left)
}

// processesIn lists those whose working directory is inside dir: the shims.
func processesIn(dir string) ([]string, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range procs {
		if cwd, err := os.Readlink(p); err == nil && strings.HasPrefix(cwd, dir) {
			out = append(out, p+" in "+cwd)
		}
	}
	return out, nil
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A pause process that cannot set itself up may be gone before the shim has put it into its cgroup: the error is the
// cause all the same.
func TestRefusedSysctl(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		spec := w.Sandbox(t)
		spec.Sysctls = map[string]string{"net.ipv4.ip_local_reserved_ports": "1024 15999"}
		sh, _, err := w.launcher.Launch(t.Context(), spec)
		if err == nil {
			_ = sh.Stop(t.Context())
			t.Fatal("the kernel takes a list of ports without a comma")
		}
		if want := "set sysctl net.ipv4.ip_local_reserved_ports=1024 15999: invalid argument"; !strings.HasSuffix(err.Error(), want) {
			t.Fatalf("the error is %q, want it to end with %q", err, want)
		}
	}
}

func (w *world) Launcher() shim.Launcher { return pauseNoter{w} }

// pauseNoter notes the pause process that the containers share the namespaces of.
type pauseNoter struct{ w *world }

func (p pauseNoter) Launch(ctx context.Context, spec shim.SandboxSpec) (shim.Shim, shim.SandboxState, error) {
	sh, st, err := p.w.launcher.Launch(ctx, spec)
	p.w.pause.Store(int64(st.PausePID))
	return sh, st, err
}

func (p pauseNoter) Connect(ctx context.Context, dir string) (shim.Shim, error) {
	return p.w.launcher.Connect(ctx, dir)
}

func (w *world) Sandbox(t *testing.T) shim.SandboxSpec {
	n := strconv.Itoa(int(w.n.Add(1)))
	dir := filepath.Join(w.dir, "sandbox-"+n)
	mkdir(t, dir)
	if err := w.cgroups.Ensure("pause"+n, cgroup.Resources{}); err != nil {
		t.Fatal(err)
	}
	spec := shim.SandboxSpec{
		ID: "sandbox-" + n, Dir: dir, Net: true, UTS: true, IPC: true, Hostname: "pod-" + n, ShmBytes: 1 << 20,
		NetNSFile: filepath.Join(w.dir, "netns-"+n), Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"},
		OOMScoreAdj: -998,
	}
	for c, d := range w.cgroups.Dirs("pause" + n) {
		if c != "devices" {
			spec.Cgroups = append(spec.Cgroups, d)
		}
	}
	return spec
}

func (w *world) Container(t *testing.T, b shimtest.Behaviour) shim.RunRequest {
	id := fmt.Sprintf("c%d", w.n.Add(1))
	dir := filepath.Join(w.dir, id)
	for _, d := range []string{"upper", "work"} {
		mkdir(t, filepath.Join(dir, d))
	}
	pause := w.pause.Load()
	ns := func(kind, file string) specs.LinuxNamespace {
		return specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind), Path: fmt.Sprintf("/proc/%d/ns/%s", pause, file)}
	}
	spec := &specs.Spec{
		Version: specs.Version, Root: &specs.Root{},
		Process: &specs.Process{Args: w.Exec(b), Env: []string{"PATH=/bin"}, Cwd: "/"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "bind", Source: filepath.Join(w.private, bundle.ShmDir), Options: []string{"rbind", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: w.cgroups.Path(id),
			Namespaces:  []specs.LinuxNamespace{{Type: "pid"}, {Type: "mount"}, ns("network", "net"), ns("ipc", "ipc"), ns("uts", "uts")},
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"mount"}, Action: specs.ActErrno}}},
		},
	}
	err := bundle.Write(dir, &bundle.Bundle{
		ID: id, Private: w.private, Spec: spec, ShmPID: int(pause), SeccompCache: filepath.Join(w.dir, "seccomp"),
		Rootfs: []bundle.Mount{{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + filepath.Join(w.dir, "lower"), "upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return shim.RunRequest{ID: id, Dir: dir, LogPath: filepath.Join(dir, "log", "0.log"), ExitFile: filepath.Join(dir, "exit.json")}
}

func (w *world) Exec(b shimtest.Behaviour) []string {
	if b.StartError {
		return []string{"/no/such/program"}
	}
	var script strings.Builder
	fmt.Fprintf(&script, "trap 'exit 143' TERM\n")
	if b.IgnoreTerm {
		fmt.Fprintf(&script, "trap '' TERM\n")
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	fmt.Fprintf(&script, "printf %%s %s; printf %%s %s >&2\n", quote(b.Output), quote(b.Errors))
	if b.Echo {
		fmt.Fprintln(&script, "/bin/busybox cat")
	}
	if b.Forever {
		fmt.Fprintln(&script, "while :; do /bin/busybox sleep 1000 & wait $!; done")
	}
	fmt.Fprintf(&script, "exit %d\n", b.ExitCode)
	return []string{"/bin/busybox", "sh", "-c", script.String()}
}
