// Package spec turns a CRI container into an OCI runtime configuration. It decides only: all that it must know of the
// machine, and the one thing that it makes there (a mount's missing source), goes through Host.
//
// The rules are those of Kubernetes' runtimes: containerd's CRI plugin is what users know, so where CRI leaves room
// (default capabilities and mounts, order of mounts, what privileged means) its answers are given here.
package spec

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim/bundle"
)

// Input is a container to be made.
type Input struct {
	// ID is the container's, SandboxID its sandbox's.
	ID, SandboxID string
	Container     *runtimeapi.ContainerConfig
	Sandbox       *runtimeapi.PodSandboxConfig
	Image         ocispec.ImageConfig
	// PausePID holds the Pod's namespaces; TargetPID is the first process of the container whose PID namespace is
	// joined, for a container that has a target.
	PausePID, TargetPID int
	// Files is the sandbox's folder with hostname, hosts and resolv.conf.
	Files string
	// Private is the bundle's private folder, below which image mounts and the Pod's /dev/shm appear.
	Private string
	// CgroupParent is where the container's cgroup goes when the sandbox names no parent.
	CgroupParent string
}

// Output is the configuration with what goes next to it into the bundle.
type Output struct {
	Spec *specs.Spec
	User bundle.User
	// Images are the image mounts, in the order of their folders below Private.
	Images []ImageRef
	// Shm says that the Pod's own /dev/shm is mounted.
	Shm bool
	// KillAll says that the container has no PID namespace of its own.
	KillAll bool
	// Notes say what could not be done as asked, without harm.
	Notes []string
}

// ImageRef is an image that is mounted as a volume.
type ImageRef struct{ Image, SubPath string }

// The names of the sandbox's files, which are mounted into /etc.
const (
	HostnameFile   = "hostname"
	HostsFile      = "hosts"
	ResolvConfFile = "resolv.conf"
)

// builder carries a configuration through its steps.
type builder struct {
	Input
	host     Host
	out      *Output
	spec     *specs.Spec
	security *runtimeapi.LinuxContainerSecurityContext
}

// Build makes the configuration. Its errors are the caller's to prefix with the container.
func Build(in Input, host Host) (*Output, error) {
	b := &builder{Input: in, host: host, security: in.Container.GetLinux().GetSecurityContext()}
	if b.security == nil {
		b.security = &runtimeapi.LinuxContainerSecurityContext{}
	}
	b.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Readonly: b.security.GetReadonlyRootfs()},
		Process: &specs.Process{Cwd: "/"},
		Linux: &specs.Linux{
			CgroupsPath: b.cgroupPath(),
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
		Annotations: b.annotations(),
	}
	b.out = &Output{Spec: b.spec}
	if b.privileged() && !in.Sandbox.GetLinux().GetSecurityContext().GetPrivileged() {
		return nil, errors.New("no privileged container allowed in sandbox")
	}
	for _, step := range []func() error{
		b.process, b.user, b.namespaces, b.mounts, b.paths, b.capabilities, b.devices, b.resources, b.appArmor, b.seccomp,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.out, nil
}

// privileged reports whether the container is confined by nothing but its namespaces and resource limits. What that
// changes is what containerd's WithPrivileged, WithHostDevices and WithAllDevicesAllowed change: all capabilities of
// the runtime, no masked and no read-only paths, /sys and the cgroups writable, no seccomp filter, no AppArmor profile
// unless one is named, every device of the host and access to all, and the host's cgroup namespace.
func (b *builder) privileged() bool { return b.security.GetPrivileged() }

// paths hides, or makes read-only, what the kubelet names of /proc and /sys. The kubelet names them for a privileged
// container too and leaves it to the runtime to have none.
func (b *builder) paths() error {
	if !b.privileged() {
		b.spec.Linux.MaskedPaths = b.security.GetMaskedPaths()
		b.spec.Linux.ReadonlyPaths = b.security.GetReadonlyPaths()
	}
	return nil
}

// cgroupPath is below the Pod's cgroup.
func (b *builder) cgroupPath() string {
	parent := b.Sandbox.GetLinux().GetCgroupParent()
	if parent == "" {
		parent = b.CgroupParent
	}
	return path.Join("/", parent, b.ID)
}

// annotations tell tools that look at running containers what they belong to.
func (b *builder) annotations() map[string]string {
	meta := b.Sandbox.GetMetadata()
	return map[string]string{
		"io.kubernetes.cri.container-type":    "container",
		"io.kubernetes.cri.container-name":    b.Container.GetMetadata().GetName(),
		"io.kubernetes.cri.image-name":        b.Container.GetImage().GetUserSpecifiedImage(),
		"io.kubernetes.cri.sandbox-id":        b.SandboxID,
		"io.kubernetes.cri.sandbox-name":      meta.GetName(),
		"io.kubernetes.cri.sandbox-namespace": meta.GetNamespace(),
		"io.kubernetes.cri.sandbox-uid":       meta.GetUid(),
	}
}

// namespaces joins the Pod's and makes what is the container's own.
func (b *builder) namespaces() error {
	opts := b.security.GetNamespaceOptions()
	if opts.GetUsernsOptions().GetMode() == runtimeapi.NamespaceMode_POD && len(opts.GetUsernsOptions().GetUids()) > 0 {
		return errors.New("user namespaces (hostUsers: false) are not supported by this runtime")
	}
	join := func(kind specs.LinuxNamespaceType, file string, pid int) {
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, file)})
	}
	own := func(kind specs.LinuxNamespaceType) {
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	own(specs.MountNamespace)
	if opts.GetNetwork() != runtimeapi.NamespaceMode_NODE {
		join(specs.NetworkNamespace, "net", b.PausePID)
		join(specs.UTSNamespace, "uts", b.PausePID)
	}
	if opts.GetIpc() != runtimeapi.NamespaceMode_NODE {
		join(specs.IPCNamespace, "ipc", b.PausePID)
	}
	switch opts.GetPid() {
	case runtimeapi.NamespaceMode_CONTAINER:
		own(specs.PIDNamespace)
	case runtimeapi.NamespaceMode_POD:
		join(specs.PIDNamespace, "pid", b.PausePID)
	case runtimeapi.NamespaceMode_TARGET:
		if b.TargetPID == 0 {
			return fmt.Errorf("invalid target container: %q does not run", opts.GetTargetId())
		}
		join(specs.PIDNamespace, "pid", b.TargetPID)
	}
	b.out.KillAll = opts.GetPid() != runtimeapi.NamespaceMode_CONTAINER
	if b.host.CgroupV2 && !b.privileged() {
		own(specs.CgroupNamespace)
	}
	return nil
}

// user says who runs the process; the names are looked up where the root file system is.
func (b *builder) user() error {
	name := b.security.GetRunAsUsername()
	if u := b.security.GetRunAsUser(); name == "" && u != nil {
		name = strconv.FormatInt(u.GetValue(), 10)
	}
	if g := b.security.GetRunAsGroup(); g != nil {
		if name == "" {
			return fmt.Errorf("user group %q is specified without user", strconv.FormatInt(g.GetValue(), 10))
		}
		name += ":" + strconv.FormatInt(g.GetValue(), 10)
	}
	if name == "" {
		name = b.Image.User
	}
	b.out.User = bundle.User{Name: name, Strict: b.security.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict}
	for _, g := range b.security.GetSupplementalGroups() {
		b.out.User.Groups = append(b.out.User.Groups, uint32(g))
	}
	return nil
}

// ImageDir is the folder that the n-th image mount appears on.
func ImageDir(private string, n int) string {
	return filepath.Join(private, bundle.ImagesDir, strconv.Itoa(n))
}
