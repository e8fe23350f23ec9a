package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func security(c *runtimeapi.ContainerConfig) *runtimeapi.LinuxContainerSecurityContext {
	return c.Linux.SecurityContext
}

// privileged makes a container one, and asks for the masks that the kubelet asks for all the same.
func privileged(c *runtimeapi.ContainerConfig) {
	security(c).Privileged = true
	security(c).MaskedPaths = []string{"/proc/kcore", "/proc/keys", "/sys/firmware"}
	security(c).ReadonlyPaths = []string{"/proc/sys", "/proc/irq"}
}

// TestConfinement runs one container a line and looks at what its process finds.
func TestConfinement(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("confine")
	pod.Linux.SecurityContext.Privileged = true
	pod.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "9000"}
	pod.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"a.b", "c.d"}, Options: []string{"ndots:5"}}
	sb := w.runPod(pod)
	vol := t.TempDir()
	for name, tc := range map[string]struct {
		script string
		change func(*runtimeapi.ContainerConfig)
		want   string
	}{
		"caps": {"grep CapEff /proc/self/status", nil, "CapEff:\t00000000a80425fb\n"},
		"caps-drop": {"grep CapEff /proc/self/status", func(c *runtimeapi.ContainerConfig) {
			security(c).Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}
		}, "CapEff:\t0000000000000400\n"},
		"seccomp": {"grep Seccomp: /proc/self/status", nil, "Seccomp:\t2\n"},
		"unconfined": {"grep Seccomp: /proc/self/status", func(c *runtimeapi.ContainerConfig) {
			security(c).Seccomp.ProfileType = runtimeapi.SecurityProfile_Unconfined
		}, "Seccomp:\t0\n"},
		"seccomp-denies": {"unshare -U true 2>&1; echo $?", nil, "unshare: unshare(0x10000000): Operation not permitted\n1\n"},
		"no-new-privs":   {"grep NoNewPrivs /proc/self/status", func(c *runtimeapi.ContainerConfig) { security(c).NoNewPrivs = true }, "NoNewPrivs:\t1\n"},
		"new-privs":      {"grep NoNewPrivs /proc/self/status", nil, "NoNewPrivs:\t0\n"},
		"root":           {"id", nil, "uid=0(root) gid=0(root) groups=0(root)\n"},
		"uid":            {"id", func(c *runtimeapi.ContainerConfig) { security(c).RunAsUser = &runtimeapi.Int64Value{Value: 1000} }, "uid=1000(alice) gid=1000(alice) groups=50(wheel),1000(alice)\n"},
		"uid-gid": {"id", func(c *runtimeapi.ContainerConfig) {
			security(c).RunAsUser = &runtimeapi.Int64Value{Value: 1000}
			security(c).RunAsGroup = &runtimeapi.Int64Value{Value: 7}
		}, "uid=1000(alice) gid=7 groups=7,50(wheel)\n"},
		"unknown-uid": {"id", func(c *runtimeapi.ContainerConfig) {
			security(c).RunAsUser = &runtimeapi.Int64Value{Value: 4242}
			security(c).SupplementalGroups = []int64{99}
		}, "uid=4242 gid=0(root) groups=0(root),99\n"},
		"name": {"id -u", func(c *runtimeapi.ContainerConfig) { security(c).RunAsUsername = "alice" }, "1000\n"},
		"strict": {"id", func(c *runtimeapi.ContainerConfig) {
			security(c).RunAsUser = &runtimeapi.Int64Value{Value: 1000}
			security(c).SupplementalGroups = []int64{99}
			security(c).SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
		}, "uid=1000(alice) gid=1000(alice) groups=99,1000(alice)\n"},
		"env": {"echo $FROM $OWN $HOSTNAME", func(c *runtimeapi.ContainerConfig) {
			c.Envs = []*runtimeapi.KeyValue{{Key: "OWN", Value: []byte("1")}, {Key: "FROM", Value: []byte("pod")}}
		}, "pod 1 confine\n"},
		"workdir":       {"pwd", func(c *runtimeapi.ContainerConfig) { c.WorkingDir = "/made/here" }, "/made/here\n"},
		"image-workdir": {"pwd", nil, "/work\n"},
		"read-only":     {"touch /x 2>&1; touch /dev/shm/x && echo shm", func(c *runtimeapi.ContainerConfig) { security(c).ReadonlyRootfs = true }, "touch: /x: Read-only file system\nshm\n"},
		"hostname":      {"hostname; cat /etc/hostname", nil, "confine\nconfine\n"},
		"resolv":        {"cat /etc/resolv.conf", nil, "search a.b c.d\nnameserver 10.0.0.10\noptions ndots:5\n"},
		"sysctl":        {"cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", nil, "80\n9000\n"},
		"loopback":      {"ip addr show lo | grep -c LOOPBACK,UP", nil, "1\n"},
		"masked": {"ls /proc/irq | wc -l; touch /proc/sys/kernel/msgmax 2>&1", func(c *runtimeapi.ContainerConfig) {
			security(c).MaskedPaths = []string{"/proc/irq"}
			security(c).ReadonlyPaths = []string{"/proc/sys"}
		}, "0\ntouch: /proc/sys/kernel/msgmax: Read-only file system\n"},
		"privileged-caps": {"grep -E 'Cap(Inh|Amb)' /proc/self/status; grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f2 | uniq | wc -l", privileged, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n1\n"},
		// Nothing below /proc and /sys is a mount of its own, so nothing is masked and nothing read-only.
		"privileged-paths":  {"grep -cE ' (/proc/.*|/sys/firmware|/sys/devices/.*) ' /proc/self/mountinfo; v=$(cat /proc/sys/vm/max_map_count); echo $v > /proc/sys/vm/max_map_count && echo written", privileged, "0\nwritten\n"},
		"privileged-sys":    {"for at in /sys /sys/fs/cgroup; do grep \" $at \" /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1; done; for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $d/podium-test-$$ 2>/dev/null && rmdir $d/podium-test-$$ && echo made; done | tail -1", privileged, "rw\nrw\nmade\n"},
		"privileged-device": {"mknod /x c 1 5 && head -c 4 /x | wc -c", privileged, "4\n"},
		"shm":               {"grep ' /dev/shm ' /proc/self/mountinfo | cut -d' ' -f6; cp /bin/busybox /dev/shm/x; /dev/shm/x true 2>&1", nil, "rw,nosuid,nodev,noexec,relatime\nsh: /dev/shm/x: Permission denied\n"},
		"sys-read-only":     {"touch /sys/x 2>&1; for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs; do test -e $f && touch $f 2>&1; done | grep -c Read-only", nil, "touch: /sys/x: Read-only file system\n1\n"},
		"privileged":        {"grep -c Seccomp:.0 /proc/self/status; ls /dev/ptmx /dev/loop-control 2>/dev/null | wc -l; mount -t tmpfs x /tmp && echo mounted", func(c *runtimeapi.ContainerConfig) { security(c).Privileged = true }, "1\n" + devices() + "\nmounted\n"},
		"pid-own":           {"echo $$", nil, "1\n"},
		"tty":               {"test -t 0 && test -t 1 && echo $TERM", func(c *runtimeapi.ContainerConfig) { c.Tty = true }, "xterm\r\n"},
		"no-stdin":          {"cat; readlink /proc/self/fd/0", nil, "/dev/null\n"},
		"volume": {"echo data > /vol/f; cat /vol/f", func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: vol, ContainerPath: "/vol"}}
		}, "data\n"},
		"volume-ro": {"cat /vol/f 2>&1; touch /vol/x 2>&1", func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: vol, ContainerPath: "/vol", Readonly: true}}
		}, "cat: can't open '/vol/f': No such file or directory\ntouch: /vol/x: Read-only file system\n"},
		"volume-options": {"printf '#!/bin/sh\\necho ran' > /vol/run; chmod +x /vol/run 2>/dev/null; busybox chmod +x /vol/run; /vol/run 2>&1", func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: vol, ContainerPath: "/vol", MountOptions: []string{"noexec"}}}
		}, "sh: /vol/run: Permission denied\n"},
		"image-volume": {"cat /img/file; touch /img/x 2>&1", func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{Image: &runtimeapi.ImageSpec{Image: testImage}, ImageSubPath: "data", ContainerPath: "/img"}}
		}, "from the image\ntouch: /img/x: Read-only file system\n"},
		"nested": {"cat /a/b/f", func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: deep(t, "inner"), ContainerPath: "/a/b"}, {HostPath: deep(t, "outer"), ContainerPath: "/a"}}
		}, "inner\n"},
		"args":    {"", func(c *runtimeapi.ContainerConfig) { c.Command = nil; c.Args = []string{"echo", "only args"} }, "only args\n"},
		"fds":     {"ls /proc/self/fd | wc -l", nil, "4\n"},
		"umask":   {"umask", nil, "0022\n"},
		"signals": {"", func(c *runtimeapi.ContainerConfig) { c.Command = []string{"grep", "SigIgn", "/proc/self/status"} }, "SigIgn:\t0000000000000000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			c := w.sh(name, tc.script)
			if tc.change != nil {
				tc.change(c)
			}
			id := w.run(sb, pod, c)
			w.exit(id)
			if got := w.log(id); got != tc.want {
				t.Errorf("it found %q, want %q", got, tc.want)
			}
			if err := w.api.RemoveContainer(t.Context(), id); err != nil {
				t.Error(err)
			}
			_ = os.RemoveAll(vol + "/f")
		})
	}
}

// deep makes a folder with a file that names it.
func deep(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(name+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// devices counts those of the host's that the privileged container is asked for.
func devices() string {
	n := 1 // every container has ptmx
	if _, err := os.Stat("/dev/loop-control"); err == nil {
		n++
	}
	return fmt.Sprint(n)
}

func TestUserInStatus(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("user")
	sb := w.runPod(pod)
	c := w.sh("main", "sleep 1000")
	security(c).RunAsUsername, security(c).SupplementalGroups = "alice", []int64{77}
	id := w.run(sb, pod, c)
	u := w.status(id).GetUser().GetLinux()
	if u.GetUid() != 1000 || u.GetGid() != 1000 || fmt.Sprint(u.GetSupplementalGroups()) != "[1000 50 77]" {
		t.Errorf("user = %v", u)
	}
	security(c).RunAsUsername = "nobody-knows"
	c.Metadata.Name = "second"
	if id, err := w.api.CreateContainer(t.Context(), sb, c, pod); err == nil || !strings.Contains(err.Error(), "unable to find user nobody-knows") {
		t.Errorf("unknown user: %q, %v", id, err)
	}
	c.Metadata.Name, security(c).RunAsUsername = "third", ""
	c.Mounts = []*runtimeapi.Mount{{Image: &runtimeapi.ImageSpec{Image: testImage}, ImageSubPath: "no/such", ContainerPath: "/img"}}
	if id, err := w.api.CreateContainer(t.Context(), sb, c, pod); err == nil || !strings.Contains(err.Error(), `image volume subpath "no/such" is not a folder of the image`) {
		t.Errorf("missing folder: %q, %v", id, err)
	}
	if left := len(w.r.store.containersOf(sb)); left != 1 {
		t.Errorf("%d containers, want the first only", left)
	}
}

// TestSharedNamespaces looks at what the containers of a Pod share with each other and with the host.
func TestSharedNamespaces(t *testing.T) {
	w := realWorld(t)
	own := w.pod("own")
	sb := w.runPod(own)
	first := w.run(sb, own, w.sh("first", "echo from first > /dev/shm/x; sleep 1000"))
	second := w.run(sb, own, w.sh("second", "sleep 1000"))
	exec := func(id, script string) string {
		t.Helper()
		out, errs, err := w.api.ExecSync(t.Context(), id, []string{"sh", "-c", script}, time.Minute)
		if err != nil {
			t.Errorf("%s: %v %s", script, err, errs)
		}
		return strings.TrimSpace(string(out))
	}
	w.eventually("/dev/shm is the Pod's", func() bool { return exec(second, "cat /dev/shm/x || true") == "from first" })
	if got := exec(second, "busybox df -k /dev/shm | tail -1 | awk '{print $2}'"); got != "65536" {
		t.Errorf("size of /dev/shm = %q", got)
	}
	for _, ns := range []string{"net", "ipc", "uts"} {
		link := "readlink /proc/self/ns/" + ns
		if a, b := exec(first, link), exec(second, link); a != b {
			t.Errorf("the containers' %s namespaces differ: %s, %s", ns, a, b)
		}
		if host, _ := os.Readlink("/proc/self/ns/" + ns); exec(first, link) == host {
			t.Errorf("the %s namespace is the host's", ns)
		}
	}
	if exec(first, "readlink /proc/self/ns/pid") == exec(second, "readlink /proc/self/ns/pid") {
		t.Error("the containers share a PID namespace")
	}
	if got := exec(first, "mount | grep -c overlay; ls /proc/1/root/.. >/dev/null && echo ok"); !strings.HasSuffix(got, "ok") {
		t.Errorf("mounts = %s", got)
	}

	shared := w.pod("shared")
	shared.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	sb = w.runPod(shared)
	c := w.sh("main", "(sleep 0.01 &); sleep 1000")
	security(c).NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	id := w.run(sb, shared, c)
	if got := exec(id, "cat /proc/1/comm"); got != "pause" {
		t.Errorf("process 1 is %q", got)
	}
	if got := exec(id, "ls /proc/1/root/ 2>&1; cat /proc/1/status | grep -E '^(Uid|CapEff)'"); !strings.Contains(got, "Uid:\t65535") || !strings.Contains(got, "CapEff:\t0000000000000000") {
		t.Errorf("pause has rights: %s", got)
	}
	w.eventually("pause reaps", func() bool { return !strings.Contains(exec(id, "cat /proc/[0-9]*/status"), "zombie") })

	host := w.pod("host")
	ns := host.Linux.SecurityContext.NamespaceOptions
	ns.Network, ns.Ipc, ns.Pid = runtimeapi.NamespaceMode_NODE, runtimeapi.NamespaceMode_NODE, runtimeapi.NamespaceMode_NODE
	sb = w.runPod(host)
	if st := w.sandboxStatus(sb); st.Network.Ip != "" {
		t.Errorf("a sandbox on the host's network has the address %s", st.Network.Ip)
	}
	c = w.sh("main", "sleep 1000 & sleep 1000")
	security(c).NamespaceOptions = ns
	id = w.run(sb, host, c)
	for _, n := range []string{"net", "ipc", "uts", "pid"} {
		if h, _ := os.Readlink("/proc/self/ns/" + n); exec(id, "readlink /proc/self/ns/"+n) != h {
			t.Errorf("the %s namespace is not the host's", n)
		}
	}

	target := w.sh("debug", "ps | grep -c 'sleep 1000'; sleep 1000")
	security(target).NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: first}
	sb = w.status0(first)
	id = w.run(sb, own, target)
	if got := exec(id, "ps | grep -c '[f]rom first\\|[s]leep 1000'"); got == "0" {
		t.Error("the target's processes cannot be seen")
	}
}

// status0 is the sandbox of a container.
func (w *world) status0(id string) string {
	c, err := w.r.store.container(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.SandboxID
}
