package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/cri/critest"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/test/pace"
)

var patience = pace.Of(30 * time.Second)

// world is a real runtime with images made of busybox and a network that gives addresses and no more.
type world struct {
	t       testing.TB
	cfg     Config
	r       *Runtime
	api     internalapi.RuntimeService
	images  *testImages
	network *critest.Network
	cgroups *cgroup.Manager
	logs    string
}

// realWorld runs real containers. At the end nothing may be left of it.
func realWorld(t *testing.T) *world { return realWorldTB(t) }

// realWorldTB is realWorld for benchmarks too.
func realWorldTB(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (apt-get install busybox-static)")
	}
	w := newWorldAt(t, t.TempDir(), busybox)
	t.Cleanup(w.checkClean)
	w.open()
	return w
}

// newWorldAt is a world in a folder, not opened yet.
func newWorldAt(t testing.TB, dir, busybox string) *world {
	t.Helper()
	shims := builtShims(t)
	w := &world{t: t, images: newTestImages(t, filepath.Join(dir, "images"), busybox), network: &critest.Network{}, logs: filepath.Join(dir, "logs")}
	w.cfg = Config{Paths: paths.For(dir), Images: w.images, Network: w.network, ShimPath: shims}
	w.cfg.Paths.CgroupParent = w.cfg.Paths.CgroupParent + "-test"
	var err error
	if w.cgroups, err = cgroup.New(w.cfg.Paths.CgroupParent); err != nil {
		t.Skip(err)
	}
	return w
}

// open starts the runtime, at first or again after close.
func (w *world) open() {
	w.t.Helper()
	r, err := New(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.r, w.api = r, r.Local()
}

// reopen is a daemon that was killed and started again: nothing is told to anyone.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.r.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
	w.open()
}

// checkClean removes all and looks for what is left.
func (w *world) checkClean() {
	t := w.t
	if w.r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.r.RemoveAll(ctx); err != nil {
		t.Errorf("remove all: %v", err)
	}
	if err := w.r.Close(); err != nil {
		t.Error(err)
	}
	if left := w.images.left(); len(left) > 0 {
		t.Errorf("snapshots are left: %v", left)
	}
	if left := w.network.Left(); len(left) > 0 {
		t.Errorf("networks are left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), w.cfg.Paths.Root) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	if pids, err := w.cgroups.Procs("/"); err != nil || len(pids) > 0 {
		t.Errorf("processes are left: %v, %v", pids, err)
	}
	left, err := w.cgroups.Children("podium-cri")
	if err != nil {
		t.Error(err)
	}
	pods, err := w.cgroups.Children("kubepods/burstable")
	if err != nil {
		t.Error(err)
	}
	for _, p := range pods { // the Pods' own cgroups are the node agent's
		in, err := w.cgroups.Children("kubepods/burstable/" + p)
		if err != nil {
			t.Error(err)
		}
		left = append(left, in...)
	}
	if len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if err := w.cgroups.Remove("/"); err != nil {
		t.Error(err)
	}
	for _, sub := range []string{"sandboxes", "containers"} {
		if left := names(filepath.Join(w.cfg.Paths.Runtime, sub)); len(left) > 0 {
			t.Errorf("records are left: %s %v", sub, left)
		}
	}
	w.eventually("no shim is left", func() bool { return len(processesIn(t, w.cfg.Paths.Root)) == 0 })
}

// processesIn are those whose working directory is inside dir: the shims.
func processesIn(t testing.TB, dir string) []string {
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range procs {
		if cwd, err := os.Readlink(p); err == nil && strings.HasPrefix(cwd, dir) {
			out = append(out, p)
		}
	}
	return out
}

// eventually waits until something is so.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if so() {
			return
		}
	}
	w.t.Errorf("not so: %s", what)
}

// pod is a sandbox's configuration.
func (w *world) pod(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name + "-uid"},
		Hostname:     name,
		LogDirectory: filepath.Join(w.logs, name),
		Labels:       map[string]string{"app": name},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: w.cgroups.Path("kubepods/burstable/pod" + name),
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// sh is a container that runs a script.
func (w *world) sh(name, script string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name},
		Image:    &runtimeapi.ImageSpec{Image: testImage},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		}},
	}
}

func (w *world) runPod(config *runtimeapi.PodSandboxConfig) string {
	w.t.Helper()
	id, err := w.api.RunPodSandbox(w.t.Context(), config, "")
	if err != nil {
		w.t.Fatalf("run sandbox: %v", err)
	}
	return id
}

func (w *world) create(sandbox string, pod *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) string {
	w.t.Helper()
	id, err := w.api.CreateContainer(w.t.Context(), sandbox, c, pod)
	if err != nil {
		w.t.Fatalf("create container: %v", err)
	}
	return id
}

func (w *world) start(id string) {
	w.t.Helper()
	if err := w.api.StartContainer(w.t.Context(), id); err != nil {
		w.t.Fatalf("start container: %v", err)
	}
}

// run creates and starts.
func (w *world) run(sandbox string, pod *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) string {
	w.t.Helper()
	id := w.create(sandbox, pod, c)
	w.start(id)
	return id
}

func (w *world) status(id string) *runtimeapi.ContainerStatus {
	w.t.Helper()
	res, err := w.api.ContainerStatus(w.t.Context(), id, false)
	if err != nil {
		w.t.Fatalf("container status: %v", err)
	}
	return res.Status
}

func (w *world) sandboxStatus(id string) *runtimeapi.PodSandboxStatus {
	w.t.Helper()
	res, err := w.api.PodSandboxStatus(w.t.Context(), id, false)
	if err != nil {
		w.t.Fatalf("sandbox status: %v", err)
	}
	return res.Status
}

// exit waits for a container's end.
func (w *world) exit(id string) *runtimeapi.ContainerStatus {
	w.t.Helper()
	w.eventually("container "+id+" has exited", func() bool {
		return w.status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return w.status(id)
}

// log is what a container has written, without times and tags.
func (w *world) log(id string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.status(id).LogPath)
	if err != nil {
		w.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			out.WriteString(parts[3])
		}
	}
	return out.String()
}

const testImage = "podium.test/busybox:1"

// testImages is an image of busybox with a few users, and overlays above it.
type testImages struct {
	dir string
	img image.Image

	mu   sync.Mutex
	keys map[string]bool
}

func newTestImages(t testing.TB, dir, busybox string) *testImages {
	t.Helper()
	i := &testImages{dir: dir, keys: map[string]bool{}}
	i.img = image.Image{
		ID: "sha256:" + strings.Repeat("ab", 32), Tags: []string{testImage}, Digests: []string{"podium.test/busybox@sha256:" + strings.Repeat("cd", 32)},
		Config: ocispec.ImageConfig{Env: []string{"PATH=/bin:/usr/bin", "FROM=image"}, Cmd: []string{"sh"}, WorkingDir: "/work", StopSignal: "SIGTERM"},
	}
	lower := filepath.Join(i.dir, "lower")
	for _, d := range []string{"bin", "etc", "tmp", "data"} {
		if err := os.MkdirAll(filepath.Join(lower, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"bin/busybox": string(data),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n",
		"etc/group":   "root:x:0:\nalice:x:1000:\nwheel:x:50:alice\n",
		"data/file":   "from the image\n",
	}
	for name, content := range files {
		if have, err := os.ReadFile(filepath.Join(lower, name)); err == nil && string(have) == content {
			continue // another process runs it
		}
		if err := os.WriteFile(filepath.Join(lower, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, applet := range []string{"sh", "cat", "sleep", "echo", "id", "env", "pwd", "hostname", "ls", "ps", "touch", "mount", "umount", "true", "dd", "head", "stat", "nc", "kill", "grep", "sync", "tail", "mkdir", "sort", "wc", "ip", "readlink", "stty", "tee", "awk", "setsid", "unshare"} {
		if err := os.Symlink("busybox", filepath.Join(lower, "bin", applet)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	return i
}

func (i *testImages) Find(_ context.Context, ref string) (image.Image, error) {
	if ref == testImage || ref == i.img.ID || ref == i.img.Digests[0] {
		return i.img, nil
	}
	return image.Image{}, fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
}

func (i *testImages) Rootfs(_ context.Context, _ image.Image, key string, readOnly bool) ([]mount.Mount, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[key] = true
	lower := filepath.Join(i.dir, "lower")
	if readOnly {
		return []mount.Mount{{Type: "bind", Source: lower, Options: []string{"ro", "rbind"}}}, nil
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(i.dir, key, d), 0o755); err != nil {
			return nil, err
		}
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + lower, "upperdir=" + filepath.Join(i.dir, key, "upper"), "workdir=" + filepath.Join(i.dir, key, "work")}}}, nil
}

func (i *testImages) RemoveRootfs(_ context.Context, key string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, key)
	return os.RemoveAll(filepath.Join(i.dir, key))
}

func (i *testImages) Usage(context.Context, string) (int64, int64, error) { return 4096, 1, nil }

// adopt takes over the snapshots of a process that was killed.
func (i *testImages) adopt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range names(i.dir) {
		if k != "lower" {
			i.keys[k] = true
		}
	}
}

func (i *testImages) left() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for k := range i.keys {
		out = append(out, k)
	}
	return out
}

// builtShims returns the folder of the shim's programs, and skips the test if they are not built.
func builtShims(t testing.TB) string {
	t.Helper()
	shims, err := filepath.Abs("../shim/embedded")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(shims, "shim.bin")); err != nil {
		t.Skip("the shim is not built: run hack/build-shim.sh")
	}
	return shims
}
