package spec

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// testHost is a machine with everything; the tests take away.
func testHost() Host {
	return Host{
		Hostname: "node", Capabilities: append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN", "CAP_SYS_ADMIN"), AppArmor: true, Seccomp: true, HugePages: true, Swap: true,
		RecursiveReadOnly: true,
		Stat: func(p string) (fs.FileInfo, error) {
			if strings.HasPrefix(p, "/missing") {
				return nil, fs.ErrNotExist
			}
			return os.Stat("/")
		},
		Resolve:  func(p string) (string, error) { return strings.Replace(p, "/link", "/real", 1), nil },
		MkdirAll: func(string) error { return nil },
		Propagation: func(p string) (string, string, error) {
			if strings.HasPrefix(p, "/shared") {
				return "shared:7", "/shared", nil
			}
			return "", "/", nil
		},
		Device: func(p string) (specs.LinuxDevice, error) {
			return specs.LinuxDevice{Path: p, Type: "c", Major: 10, Minor: 229}, nil
		},
		Devices:         func() ([]specs.LinuxDevice, error) { return []specs.LinuxDevice{{Path: "/dev/kvm"}}, nil },
		ReadFile:        func(string) ([]byte, error) { return []byte(`{"defaultAction":"SCMP_ACT_LOG"}`), nil },
		DefaultSeccomp:  func(*specs.Spec) *specs.LinuxSeccomp { return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno} },
		DefaultAppArmor: func() (string, error) { return appArmorProfile, nil },
		HasAppArmor:     func(name string) (bool, error) { return name != "gone", nil },
	}
}

// input is a plain container.
func input() Input {
	return Input{
		ID: "cid", SandboxID: "sid", PausePID: 42, Files: "/files", Private: "/private", CgroupParent: "/other",
		Sandbox: &runtimeapi.PodSandboxConfig{
			Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod", Namespace: "ns", Uid: "uid"}, Hostname: "pod",
			Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/poduid", SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{}},
		},
		Container: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{UserSpecifiedImage: "nginx"},
			Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
		},
		Image: ocispec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"a", "b"}, Env: []string{"PATH=/image", "X=1", "NOVALUE"}, WorkingDir: "/w", User: "app"},
	}
}

// build makes a configuration of the plain container with a change.
func build(t *testing.T, change func(*Input, *runtimeapi.LinuxContainerSecurityContext, *Host)) (*Output, error) {
	t.Helper()
	in, host := input(), testHost()
	if change != nil {
		change(&in, in.Container.Linux.SecurityContext, &host)
	}
	return Build(in, host)
}

func must(t *testing.T, change func(*Input, *runtimeapi.LinuxContainerSecurityContext, *Host)) *Output {
	t.Helper()
	out, err := build(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlain(t *testing.T) {
	out := must(t, nil)
	s := out.Spec
	if got := strings.Join(s.Process.Args, " "); got != "/entry a b" {
		t.Errorf("args = %s", got)
	}
	if got := strings.Join(s.Process.Env, " "); got != "PATH=/image HOSTNAME=pod X=1" {
		t.Errorf("env = %s", got)
	}
	if s.Process.Cwd != "/w" || out.User.Name != "app" || s.Linux.CgroupsPath != "/kubepods/poduid/cid" || out.KillAll || !out.Shm {
		t.Errorf("cwd %s, user %q, cgroup %s, killAll %v, shm %v", s.Process.Cwd, out.User.Name, s.Linux.CgroupsPath, out.KillAll, out.Shm)
	}
	if !reflect.DeepEqual(s.Process.Capabilities.Bounding, defaultCapabilities) || s.Process.Capabilities.Inheritable != nil || s.Process.Capabilities.Ambient != nil {
		t.Errorf("capabilities = %v", s.Process.Capabilities)
	}
	if s.Linux.Seccomp != nil || s.Process.ApparmorProfile != appArmorProfile {
		t.Errorf("seccomp %v, AppArmor %q", s.Linux.Seccomp, s.Process.ApparmorProfile)
	}
	var namespaces []string
	for _, n := range s.Linux.Namespaces {
		namespaces = append(namespaces, string(n.Type)+":"+n.Path)
	}
	if got := strings.Join(namespaces, " "); got != "mount: network:/proc/42/ns/net uts:/proc/42/ns/uts ipc:/proc/42/ns/ipc pid:" {
		t.Errorf("namespaces = %s", got)
	}
	var mounts []string
	for _, m := range s.Mounts {
		mounts = append(mounts, m.Destination)
	}
	slices.Sort(mounts)
	if got := strings.Join(mounts, " "); got != "/dev /dev/mqueue /dev/pts /dev/shm /etc/hostname /etc/hosts /etc/resolv.conf /proc /sys /sys/fs/cgroup" {
		t.Errorf("mounts = %s", got)
	}
	if s.Annotations["io.kubernetes.cri.sandbox-uid"] != "uid" || s.Annotations["io.kubernetes.cri.image-name"] != "nginx" {
		t.Errorf("annotations = %v", s.Annotations)
	}
}

func TestCommandLine(t *testing.T) {
	list := func(s string) []string { return strings.Fields(s) }
	for _, tc := range []struct{ command, args, entrypoint, cmd, want string }{
		{"", "", "/e", "c", "/e c"}, {"", "a", "/e", "c", "/e a"}, {"/x", "", "/e", "c", "/x"}, {"/x", "a", "/e", "c", "/x a"},
		{"", "", "", "c", "c"}, {"", "", "/e", "", "/e"}, {"", "a", "", "", "a"},
	} {
		got, err := commandLine(list(tc.command), list(tc.args), list(tc.entrypoint), list(tc.cmd))
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%+v: %v, %v", tc, got, err)
		}
	}
	if _, err := commandLine(nil, nil, []string{""}, nil); err == nil || err.Error() != "no command specified" {
		t.Errorf("nothing to run: %v", err)
	}
}

func TestUser(t *testing.T) {
	value := func(v int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: v} }
	for want, change := range map[string]func(*runtimeapi.LinuxContainerSecurityContext){
		"7":     func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUser = value(7) },
		"7:8":   func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUser, s.RunAsGroup = value(7), value(8) },
		"bob":   func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUsername = "bob" },
		"bob:8": func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUsername, s.RunAsGroup = "bob", value(8) },
		"app":   func(*runtimeapi.LinuxContainerSecurityContext) {},
	} {
		out := must(t, func(_ *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) { change(s) })
		if out.User.Name != want {
			t.Errorf("user = %q, want %q", out.User.Name, want)
		}
	}
	_, err := build(t, func(_ *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) { s.RunAsGroup = value(8) })
	if err == nil || err.Error() != `user group "8" is specified without user` {
		t.Errorf("a group without a user: %v", err)
	}
}

func TestCapabilities(t *testing.T) {
	for name, tc := range map[string]struct {
		add, drop []string
		want      []string
		notes     int
	}{
		"add":            {[]string{"net_admin"}, nil, append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN"), 0},
		"add prefixed":   {[]string{"CAP_NET_ADMIN"}, nil, append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN"), 0},
		"drop all":       {nil, []string{"ALL"}, nil, 0},
		"only one":       {[]string{"NET_RAW"}, []string{"all"}, []string{"CAP_NET_RAW"}, 0},
		"all but one":    {[]string{"ALL"}, []string{"SYS_ADMIN"}, append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN"), 0},
		"not the host's": {[]string{"SYS_RESOURCE"}, []string{"ALL"}, nil, 1},
	} {
		out := must(t, func(_ *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) {
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: tc.add, DropCapabilities: tc.drop}
		})
		if got := out.Spec.Process.Capabilities.Bounding; !slices.Equal(got, tc.want) || len(out.Notes) != tc.notes {
			t.Errorf("%s: %v (notes %v), want %v", name, got, out.Notes, tc.want)
		}
	}
}

func TestMounts(t *testing.T) {
	options := func(m *runtimeapi.Mount, host func(*Host)) ([]string, error) {
		out, err := build(t, func(in *Input, _ *runtimeapi.LinuxContainerSecurityContext, h *Host) {
			in.Container.Mounts = []*runtimeapi.Mount{m}
			if host != nil {
				host(h)
			}
		})
		if err != nil {
			return nil, err
		}
		for _, sm := range out.Spec.Mounts {
			if sm.Destination == m.ContainerPath {
				return append([]string{sm.Source}, sm.Options...), nil
			}
		}
		t.Fatalf("no mount on %s", m.ContainerPath)
		return nil, nil
	}
	type mount = runtimeapi.Mount
	bidirectional, follow := runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL, runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	for _, tc := range []struct {
		m    *mount
		want string
	}{
		{&mount{HostPath: "/h", ContainerPath: "/c"}, "/h rbind rprivate rw"},
		{&mount{HostPath: "/link/x", ContainerPath: "/c"}, "/real/x rbind rprivate rw"},
		{&mount{HostPath: "/missing", ContainerPath: "/c"}, "/missing rbind rprivate rw"},
		{&mount{HostPath: "/h", ContainerPath: "/c", Readonly: true}, "/h rbind rprivate ro"},
		{&mount{HostPath: "/h", ContainerPath: "/c", Readonly: true, RecursiveReadOnly: true}, "/h rbind rprivate rro"},
		{&mount{HostPath: "/shared/x", ContainerPath: "/c", Propagation: bidirectional}, "/shared/x rbind rshared rw"},
		{&mount{HostPath: "/shared/x", ContainerPath: "/c", Propagation: follow}, "/shared/x rbind rslave rw"},
		{&mount{HostPath: "/h", ContainerPath: "/c", MountOptions: []string{"noexec", "nosuid"}}, "/h rbind rprivate rw noexec nosuid"},
		{&mount{Image: &runtimeapi.ImageSpec{Image: "i"}, ContainerPath: "/c"}, "/private/images/0 rbind rprivate ro"},
		{&mount{HostPath: "/h", ContainerPath: "/etc/hosts"}, "/h rbind rprivate rw"},
	} {
		if got, err := options(tc.m, nil); err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%v: %v, %v", tc.m, got, err)
		}
	}
	for _, tc := range []struct {
		m    *mount
		want string
	}{
		{&mount{HostPath: "/h", ContainerPath: "/c", Propagation: bidirectional}, `path "/h" is mounted on "/" but it is not a shared mount`},
		{&mount{HostPath: "/h", ContainerPath: "/c", Propagation: follow}, `path "/h" is mounted on "/" but it is not a shared or slave mount`},
		{&mount{HostPath: "/h", ContainerPath: "/c", RecursiveReadOnly: true}, `recursive read-only mount conflicts with RW mount (hostPath="/h")`},
		{&mount{HostPath: "/h", ContainerPath: "/c", Readonly: true, RecursiveReadOnly: true}, "this kernel does not support recursive read-only mounts"},
		{&mount{ContainerPath: "/c"}, "neither a host path nor an image"},
		{&mount{HostPath: "/h", Image: &runtimeapi.ImageSpec{Image: "i"}, ContainerPath: "/c"}, "both an image and a host path"},
	} {
		_, err := options(tc.m, func(h *Host) { h.RecursiveReadOnly = false })
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v", tc.m, err)
		}
	}
	// The deep come after the shallow, and a mounted /dev keeps the system's mounts below it out.
	out := must(t, func(in *Input, _ *runtimeapi.LinuxContainerSecurityContext, _ *Host) {
		in.Container.Mounts = []*mount{{HostPath: "/1", ContainerPath: "/a/b/c"}, {HostPath: "/2", ContainerPath: "/a"}, {HostPath: "/dev", ContainerPath: "/dev"}}
	})
	var order []string
	for _, m := range out.Spec.Mounts {
		if m.Destination == "/dev/pts" || m.Destination == "/dev/mqueue" {
			t.Errorf("%s is mounted into a mounted /dev", m.Destination)
		}
		if strings.HasPrefix(m.Destination, "/a") {
			order = append(order, m.Destination)
		}
	}
	if strings.Join(order, " ") != "/a /a/b/c" {
		t.Errorf("order = %v", order)
	}
}

func TestNamespaces(t *testing.T) {
	kinds := func(o *runtimeapi.NamespaceOption, target int, v2, privileged bool) (string, *Output, error) {
		out, err := build(t, func(in *Input, s *runtimeapi.LinuxContainerSecurityContext, h *Host) {
			s.NamespaceOptions, in.TargetPID, h.CgroupV2, s.Privileged = o, target, v2, privileged
			in.Sandbox.Linux.SecurityContext.Privileged = privileged
		})
		if err != nil {
			return "", nil, err
		}
		var list []string
		for _, n := range out.Spec.Linux.Namespaces {
			list = append(list, strings.TrimSuffix(string(n.Type)+":"+n.Path, ":"))
		}
		return strings.Join(list, " "), out, nil
	}
	type o = runtimeapi.NamespaceOption
	node, own, pod, target := runtimeapi.NamespaceMode_NODE, runtimeapi.NamespaceMode_CONTAINER, runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_TARGET
	for _, tc := range []struct {
		o              *o
		target         int
		v2, privileged bool
		want           string
		killAll        bool
	}{
		{&o{Network: node, Ipc: node, Pid: node}, 0, false, false, "mount", true},
		{&o{Network: node, Pid: own}, 0, false, false, "mount ipc:/proc/42/ns/ipc pid", false},
		{&o{Network: node, Ipc: node, Pid: pod}, 0, false, false, "mount pid:/proc/42/ns/pid", true},
		{&o{Network: node, Ipc: node, Pid: target, TargetId: "x"}, 99, false, false, "mount pid:/proc/99/ns/pid", true},
		{&o{Network: node, Ipc: node, Pid: own}, 0, true, false, "mount pid cgroup", false},
		{&o{Network: node, Ipc: node, Pid: own}, 0, true, true, "mount pid", false},
	} {
		got, out, err := kinds(tc.o, tc.target, tc.v2, tc.privileged)
		if err != nil || got != tc.want || out.KillAll != tc.killAll {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
	if _, _, err := kinds(&o{Pid: target, TargetId: "x"}, 0, false, false); err == nil || !strings.Contains(err.Error(), "invalid target container") {
		t.Errorf("a target that does not run: %v", err)
	}
}

func TestConfine(t *testing.T) {
	type ctx = runtimeapi.LinuxContainerSecurityContext
	type prof = runtimeapi.SecurityProfile
	unconfined, localhost := runtimeapi.SecurityProfile_Unconfined, runtimeapi.SecurityProfile_Localhost
	for name, tc := range map[string]struct {
		set               func(*ctx, *Host)
		seccomp, apparmor string
		err               string
	}{
		"default": {func(s *ctx, _ *Host) { s.Seccomp = &prof{} }, "SCMP_ACT_ERRNO", appArmorProfile, ""},
		"unconfined": {func(s *ctx, _ *Host) {
			s.Seccomp, s.Apparmor = &prof{ProfileType: unconfined}, &prof{ProfileType: unconfined}
		}, "", "", ""},
		"localhost": {func(s *ctx, _ *Host) {
			s.Seccomp = &prof{ProfileType: localhost, LocalhostRef: "/p.json"}
			s.Apparmor = &prof{ProfileType: localhost, LocalhostRef: "localhost/mine"}
		}, "SCMP_ACT_LOG", "mine", ""},
		//lint:ignore SA1019 older clients name the profile so
		"older words": {func(s *ctx, _ *Host) { s.SeccompProfilePath, s.ApparmorProfile = "runtime/default", "unconfined" }, "SCMP_ACT_ERRNO", "", ""},
		//lint:ignore SA1019 older clients name the profile so
		"junk":              {func(s *ctx, _ *Host) { s.SeccompProfilePath = "junk" }, "", "", `invalid security profile "junk"`},
		"privileged":        {func(s *ctx, _ *Host) { s.Privileged, s.Seccomp = true, &prof{} }, "", "", ""},
		"no seccomp":        {func(s *ctx, h *Host) { h.Seccomp = false; s.Seccomp = &prof{} }, "", appArmorProfile, ""},
		"no seccomp at all": {func(s *ctx, h *Host) { h.Seccomp = false; s.Seccomp = &prof{ProfileType: localhost} }, "", "", "seccomp is not supported"},
		"no apparmor":       {func(_ *ctx, h *Host) { h.AppArmor = false }, "", "", ""},
		"apparmor default":  {func(s *ctx, h *Host) { h.AppArmor = false; s.Apparmor = &prof{} }, "", "", "apparmor is not supported"},
		"apparmor free": {func(s *ctx, h *Host) {
			h.AppArmor = false
			s.Apparmor = &prof{ProfileType: runtimeapi.SecurityProfile_Unconfined}
		}, "", "", ""},
		"apparmor gone":    {func(s *ctx, _ *Host) { s.Apparmor = &prof{ProfileType: localhost, LocalhostRef: "gone"} }, "", "", "apparmor profile not found gone"},
		"apparmor missing": {func(s *ctx, h *Host) { h.AppArmor = false; s.Apparmor = &prof{ProfileType: localhost} }, "", "", "apparmor is not supported"},
		"no file": {func(s *ctx, h *Host) {
			h.ReadFile = func(string) ([]byte, error) { return nil, errors.New("gone") }
			s.Seccomp = &prof{ProfileType: localhost, LocalhostRef: "/p"}
		}, "", "", `cannot load seccomp profile "/p": gone`},
	} {
		out, err := build(t, func(in *Input, s *ctx, h *Host) {
			in.Sandbox.Linux.SecurityContext.Privileged = true
			tc.set(s, h)
		})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		if out.Spec.Linux.Seccomp != nil {
			got = string(out.Spec.Linux.Seccomp.DefaultAction)
		}
		if got != tc.seccomp || out.Spec.Process.ApparmorProfile != tc.apparmor {
			t.Errorf("%s: seccomp %q, AppArmor %q", name, got, out.Spec.Process.ApparmorProfile)
		}
	}
}

// TestPrivileged goes through all that containerd changes for a privileged container.
func TestPrivileged(t *testing.T) {
	if _, err := build(t, func(_ *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) { s.Privileged = true }); err == nil || err.Error() != "no privileged container allowed in sandbox" {
		t.Errorf("in a sandbox that is not: %v", err)
	}
	ask := func(in *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) {
		// What the kubelet asks for whether or not the container is privileged.
		s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore", "/sys/firmware"}, []string{"/proc/sys"}
		s.Seccomp = &runtimeapi.SecurityProfile{}
		s.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}}
		in.Container.Devices = []*runtimeapi.Device{{HostPath: "/dev/kvm", ContainerPath: "/dev/kvm", Permissions: "r"}, {HostPath: "/dev/kvm", ContainerPath: "/dev/mine"}}
		in.Sandbox.Linux.SecurityContext.Privileged = true
	}
	plain := must(t, ask).Spec
	if len(plain.Linux.MaskedPaths) != 2 || len(plain.Linux.ReadonlyPaths) != 1 || plain.Linux.Seccomp == nil || plain.Process.ApparmorProfile == "" {
		t.Errorf("a container next to it: %+v", plain.Linux)
	}
	for _, v2 := range []bool{false, true} {
		s := must(t, func(in *Input, sc *runtimeapi.LinuxContainerSecurityContext, h *Host) {
			ask(in, sc, h)
			sc.Privileged, h.CgroupV2, h.CgroupOptions = true, v2, []string{"nsdelegate"}
		}).Spec
		all := testHost().Capabilities
		if c := s.Process.Capabilities; !slices.Equal(c.Bounding, all) || !slices.Equal(c.Effective, all) || !slices.Equal(c.Permitted, all) || c.Inheritable != nil || c.Ambient != nil {
			t.Errorf("capabilities = %+v", c)
		}
		if len(s.Linux.MaskedPaths) != 0 || len(s.Linux.ReadonlyPaths) != 0 {
			t.Errorf("masked %v, read-only %v", s.Linux.MaskedPaths, s.Linux.ReadonlyPaths)
		}
		if s.Linux.Seccomp != nil || s.Process.ApparmorProfile != "" {
			t.Errorf("seccomp %v, AppArmor %q", s.Linux.Seccomp, s.Process.ApparmorProfile)
		}
		if rules := s.Linux.Resources.Devices; len(rules) != 1 || !rules[0].Allow || rules[0].Access != "rwm" || rules[0].Type != "" {
			t.Errorf("device rules = %+v", rules)
		}
		var nodes []string
		for _, d := range s.Linux.Devices {
			nodes = append(nodes, d.Path)
		}
		if got := strings.Join(nodes, " "); got != "/dev/kvm /dev/mine" {
			t.Errorf("devices = %s: what is asked for and all of the host's, each once", got)
		}
		for _, n := range s.Linux.Namespaces {
			if n.Type == specs.CgroupNamespace {
				t.Error("it has a cgroup namespace of its own")
			}
		}
		for _, m := range s.Mounts {
			if (m.Destination == "/sys" || m.Destination == "/sys/fs/cgroup") && (!slices.Contains(m.Options, "rw") || slices.Contains(m.Options, "ro")) {
				t.Errorf("%s is mounted %v", m.Destination, m.Options)
			}
			if m.Destination == "/sys/fs/cgroup" && slices.Contains(m.Options, "nsdelegate") != v2 {
				t.Errorf("cgroup v2 %v: %s is mounted %v", v2, m.Destination, m.Options)
			}
		}
	}
	// A profile that is named holds for a privileged container too.
	named := must(t, func(in *Input, s *runtimeapi.LinuxContainerSecurityContext, h *Host) {
		ask(in, s, h)
		s.Privileged = true
		s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "mine"}
	})
	if named.Spec.Process.ApparmorProfile != "mine" {
		t.Errorf("AppArmor = %q", named.Spec.Process.ApparmorProfile)
	}
}

// TestSystemMounts compares every container's own mounts with those of containerd, option by option.
func TestSystemMounts(t *testing.T) {
	want := map[string]string{
		"/proc":          "proc nosuid noexec nodev",
		"/dev":           "tmpfs nosuid strictatime mode=755 size=65536k",
		"/dev/pts":       "devpts nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
		"/dev/mqueue":    "mqueue nosuid noexec nodev",
		"/dev/shm":       "bind rbind rprivate rw nosuid nodev noexec",
		"/sys":           "sysfs nosuid noexec nodev ro",
		"/sys/fs/cgroup": "cgroup nosuid noexec nodev relatime ro",
	}
	for _, m := range must(t, nil).Spec.Mounts {
		if w, ok := want[m.Destination]; ok && m.Type+" "+strings.Join(m.Options, " ") != w {
			t.Errorf("%s is mounted as %s %v, not %s", m.Destination, m.Type, m.Options, w)
		}
	}
	host := must(t, func(_ *Input, s *runtimeapi.LinuxContainerSecurityContext, _ *Host) {
		s.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
	})
	for _, m := range host.Spec.Mounts {
		if got := strings.Join(m.Options, " "); m.Destination == "/dev/shm" && (m.Source != "/dev/shm" || got != "rbind rprivate rw nosuid nodev") {
			t.Errorf("the host's /dev/shm is mounted from %s with %s", m.Source, got)
		}
	}
	if got := strings.Join(keptCgroupOptions("rw,nsdelegate,foo,memory_recursiveprot"), " "); got != "nsdelegate memory_recursiveprot" {
		t.Errorf("kept cgroup options = %s", got)
	}
}

func TestDevicesAndResources(t *testing.T) {
	out := must(t, func(in *Input, _ *runtimeapi.LinuxContainerSecurityContext, h *Host) {
		in.Container.Devices = []*runtimeapi.Device{{HostPath: "/dev/link", ContainerPath: "/dev/fuse", Permissions: "rw"}}
		in.Container.Linux.Resources = &runtimeapi.LinuxContainerResources{
			CpuShares: 2, CpuQuota: -1, CpuPeriod: 100000, MemoryLimitInBytes: 1 << 20, CpusetCpus: "0", OomScoreAdj: 1000,
			HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4}}, Unified: map[string]string{"memory.high": "5"},
		}
		h.CgroupV2 = true
	})
	l := out.Spec.Linux
	if len(l.Devices) != 1 || l.Devices[0].Path != "/dev/fuse" {
		t.Errorf("devices = %v", l.Devices)
	}
	if rules := l.Resources.Devices; len(rules) != 2 || rules[0].Allow || rules[1].Access != "rw" || *rules[1].Major != 10 {
		t.Errorf("rules = %v", l.Resources.Devices)
	}
	if *l.Resources.CPU.Shares != 2 || *l.Resources.CPU.Quota != -1 || *l.Resources.Memory.Limit != 1<<20 || *l.Resources.Memory.Swap != 1<<20 || l.Resources.CPU.Cpus != "0" {
		t.Errorf("resources = %+v %+v", l.Resources.CPU, l.Resources.Memory)
	}
	if *out.Spec.Process.OOMScoreAdj != 1000 || l.Resources.HugepageLimits[0].Limit != 4 || l.Resources.Unified["memory.high"] != "5" {
		t.Errorf("oom %d, huge pages %v, unified %v", *out.Spec.Process.OOMScoreAdj, l.Resources.HugepageLimits, l.Resources.Unified)
	}
}

func TestListOfAppArmorProfiles(t *testing.T) {
	const list = "docker-default (enforce)\n/usr/bin/man (complain)\nmy profile (enforce)\nmine (1) (enforce)\n"
	for name, want := range map[string]bool{"docker-default": true, "/usr/bin/man": true, "my profile": true, "mine (1)": true, "mine": false, "docker": false, "": false} {
		if got := listsProfile(list, name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
