package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// cutPower does to the node what a power cut and the next boot of the machine do: no process, mount, cgroup or link
// is left, the disk is as it was, and the boot ID is another.
func (s *space) cutPower() {
	s.Helper()
	n := s.node
	n.kill(s.T)
	s.eventually("no process of the node is left", func() error {
		left := 0
		for pid, p := range processes(s) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(p.cgroup, "/"+n.paths.ID) || bytes.Contains(line, []byte(n.paths.Root+"/")) {
				left++
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if left > 0 {
			return fmt.Errorf("there are %d", left)
		}
		return nil
	})
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(n.paths.Root))
	if err != nil {
		s.Fatal(err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			s.Errorf("unmount %s: %v", m.Mountpoint, err)
		}
	}
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, _ := filepath.Glob(filepath.Join(top, n.paths.ID))
		for _, g := range groups {
			s.eventually("the cgroups are gone", func() error { return removeTree(g) })
		}
	}
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			if strings.Contains(l.Attrs().Alias, n.paths.ID) || strings.Contains(l.Attrs().Name, strings.TrimPrefix(n.paths.ID, "podium-")) {
				_ = netlink.LinkDel(l) // the other end of a pair is gone with the first
			}
		}
	}
	changed := 0
	id := regexp.MustCompile(`"BootID":"[^"]*"`)
	err = filepath.WalkDir(n.paths.Runtime, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && id.Match(text) {
			changed++
			err = os.WriteFile(path, id.ReplaceAll(text, []byte(`"BootID":"of-an-earlier-boot"`)), 0o600)
		}
		return err
	})
	if err != nil || changed == 0 {
		s.Fatalf("the boot ID of %d sandboxes was changed: %v", changed, err)
	}
}

// removeTree removes the folders of a cgroup, the lowest first.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := os.Remove(d); err != nil {
			return err
		}
	}
	return nil
}

// After a reboot every Pod comes back as what it was, in a new sandbox: the containers are restarted once, what had
// ended has ended, what lay in an emptyDir on disk lies there. Static Pods do not wait for the API.
func TestReboot(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	n := ownNodeWith(t, "--etcd-servers", etcd.url)
	s := newSpaceOn(t, n)
	record := s.TempDir()
	always := corev1.ContainerRestartPolicyAlways
	plain := withHostDir(shellPod("plain", "cat /kept/x; echo here > /kept/x; exec sleep 3600"), record)
	plain.Spec.Volumes = append(plain.Spec.Volumes, corev1.Volume{Name: "kept", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	plain.Spec.Containers[0].VolumeMounts = append(plain.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "kept", MountPath: "/kept"})
	plain.Spec.InitContainers = []corev1.Container{
		{Name: "init", Image: shellImage, Command: []string{"sh", "-c", "echo init >> /shared/order"}},
		{Name: "side", Image: shellImage, Command: []string{"sh", "-c", "echo side >> /shared/order; exec sleep 3600"}, RestartPolicy: &always},
	}
	for i := range plain.Spec.InitContainers {
		plain.Spec.InitContainers[i].VolumeMounts = []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	}
	s.create(plain)
	done := withHostDir(shellPod("done", "echo x >> /shared/done"), record)
	done.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(done)
	job := withHostDir(shellPod("job", "echo x >> /shared/job; exec sleep 3600"), record)
	job.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(job)
	manifest := s.staticManifest("static", "echo x >> /record/static; exec sleep 3600")
	manifest = strings.Replace(manifest, "command:", "volumeMounts: [{name: r, mountPath: /record}], command:", 1) +
		"  volumes: [{name: r, hostPath: {path: " + record + "}}]\n"
	s.drop("static.yaml", manifest)
	mirror := "static-" + n.name()
	before := map[string]*corev1.Pod{}
	for _, name := range []string{"plain", "job", mirror} {
		before[name] = s.awaitRunning(name)
	}
	s.awaitPhase("done", corev1.PodSucceeded)

	s.cutPower()
	etcd.stop()
	up := command(binary(), "up", "--root", n.paths.Root, "--bind", n.bind, "--node-name", n.name(), "--etcd-servers", etcd.url)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = up.Wait() }() // it ends with the node
	s.eventually("the static Pod runs again, with no API", func() error {
		if b, err := os.ReadFile(filepath.Join(record, "static")); string(b) != "x\nx\n" {
			return fmt.Errorf("it ran %q (%v)", b, err)
		}
		return nil
	})
	etcd.start()
	restarted := func(name string) *corev1.Pod {
		t.Helper()
		was := before[name].Status.ContainerStatuses[0].ContainerID
		p := s.await(name, "back", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != was
		})
		if c := p.Status.ContainerStatuses[0]; c.RestartCount != 1 || p.UID != before[name].UID && name != mirror {
			t.Error(describe(p))
		}
		return p
	}
	restarted(mirror)
	after := restarted("plain")
	for _, c := range after.Status.InitContainerStatuses {
		if c.Name == "side" && c.RestartCount != 1 {
			t.Errorf("the sidecar: %s", describe(after))
		}
	}
	if got := s.readText(filepath.Join(record, "order")); got != "init\nside\ninit\nside\n" {
		t.Errorf("the init containers ran %q", got)
	}
	if out := s.kubectl("logs", "plain", "-c", "c0"); out != "here\n" {
		t.Errorf("in the emptyDir is %q", out)
	}
	if p := s.awaitPhase("job", corev1.PodFailed); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error(describe(p))
	}
	s.awaitPhase("done", corev1.PodSucceeded)
	for file, want := range map[string]string{"done": "x\n", "job": "x\n", "static": "x\nx\n"} {
		if got := s.readText(filepath.Join(record, file)); got != want {
			t.Errorf("%s ran %q, want %q", file, got, want)
		}
	}
}
