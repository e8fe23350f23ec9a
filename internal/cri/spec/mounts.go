package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim/bundle"
)

const hostShm = "/dev/shm"

// mounts puts the system's own first, then the sandbox's files and the container's, the shallow before the deep, so
// that none hides another. A mount of the container's takes the place of a system's at the same path.
func (b *builder) mounts() error {
	asked := b.Container.GetMounts()
	taken := map[string]bool{}
	for _, m := range asked {
		taken[filepath.Clean(m.GetContainerPath())] = true
	}
	extra, err := b.sandboxFiles(taken)
	if err != nil {
		return err
	}
	for _, m := range extra {
		taken[filepath.Clean(m.GetContainerPath())] = true
	}
	for _, m := range b.systemMounts() {
		if taken[m.Destination] || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		b.spec.Mounts = append(b.spec.Mounts, m)
	}
	all := slices.Concat(asked, extra)
	slices.SortStableFunc(all, func(x, y *runtimeapi.Mount) int { return depth(x.GetContainerPath()) - depth(y.GetContainerPath()) })
	for _, m := range all {
		sm, err := b.mount(m)
		if err != nil {
			return err
		}
		b.spec.Mounts = append(b.spec.Mounts, sm)
	}
	return nil
}

func depth(p string) int { return strings.Count(filepath.Clean(p), string(os.PathSeparator)) }

// systemMounts are every container's. They and their options are those of containerd (defaultMounts in its pkg/oci,
// and what its CRI plugin adds and takes away).
func (b *builder) systemMounts() []specs.Mount {
	ro := "ro"
	if b.privileged() {
		ro = "rw"
	}
	cgroup := []string{"nosuid", "noexec", "nodev", "relatime", ro}
	if b.host.CgroupV2 && b.privileged() {
		// It shares the host's cgroup namespace, and with it the one superblock of cgroup2, whose options the mount
		// sets for the whole machine.
		cgroup = append(cgroup, b.host.CgroupOptions...)
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
}

// sandboxFiles are the Pod's hostname, hosts, resolv.conf and shared memory, as far as the container mounts nothing
// there itself.
func (b *builder) sandboxFiles(taken map[string]bool) ([]*runtimeapi.Mount, error) {
	var out []*runtimeapi.Mount
	for file, path := range map[string]string{HostnameFile: "/etc/hostname", HostsFile: "/etc/hosts", ResolvConfFile: "/etc/resolv.conf"} {
		if host := filepath.Join(b.Files, file); !taken[path] && b.Files != "" {
			out = append(out, &runtimeapi.Mount{ContainerPath: path, HostPath: host, Readonly: b.security.GetReadonlyRootfs()})
		}
	}
	if taken[hostShm] {
		return out, nil
	}
	// The options are named although the source has them: a bind mount that names any option, as all do with their
	// «rw», has those and no others.
	shm := &runtimeapi.Mount{ContainerPath: hostShm, HostPath: hostShm, MountOptions: []string{"nosuid", "nodev"}}
	if b.security.GetNamespaceOptions().GetIpc() != runtimeapi.NamespaceMode_NODE {
		shm.HostPath, b.out.Shm = filepath.Join(b.Private, bundle.ShmDir), true
		shm.MountOptions = append(shm.MountOptions, "noexec")
	}
	return append(out, shm), nil
}

// mount turns a CRI mount into a bind mount. A source on the host that is not there is made as a folder.
func (b *builder) mount(m *runtimeapi.Mount) (specs.Mount, error) {
	out := specs.Mount{Destination: filepath.Clean(m.GetContainerPath()), Type: "bind", Options: []string{"rbind"}}
	if m.GetImage().GetImage() != "" {
		return b.imageMount(m, out)
	}
	src := m.GetHostPath()
	if !strings.HasPrefix(src, b.Private+"/") {
		var err error
		if src, err = b.source(src); err != nil {
			return out, err
		}
	}
	out.Source = src
	prop, err := b.propagate(m.GetPropagation(), src)
	if err != nil {
		return out, err
	}
	out.Options = append(out.Options, prop)
	access, err := b.access(m)
	if err != nil {
		return out, err
	}
	out.Options = append(append(out.Options, access), m.GetMountOptions()...)
	for _, id := range m.GetUidMappings() {
		out.UIDMappings = append(out.UIDMappings, specs.LinuxIDMapping{HostID: id.GetHostId(), ContainerID: id.GetContainerId(), Size: id.GetLength()})
	}
	for _, id := range m.GetGidMappings() {
		out.GIDMappings = append(out.GIDMappings, specs.LinuxIDMapping{HostID: id.GetHostId(), ContainerID: id.GetContainerId(), Size: id.GetLength()})
	}
	return out, nil
}

// source is the path without links. What is not there is made as a folder.
func (b *builder) source(path string) (string, error) {
	if path == "" {
		return "", errors.New("a mount has neither a host path nor an image")
	}
	if _, err := b.host.Stat(path); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("failed to stat %q: %w", path, err)
		}
		if err := b.host.MkdirAll(path); err != nil {
			return "", fmt.Errorf("failed to mkdir %q: %w", path, err)
		}
	}
	src, err := b.host.Resolve(path)
	if err != nil {
		return "", fmt.Errorf("failed to resolve symlink %q: %w", path, err)
	}
	return src, nil
}

// propagate gives the option, having checked that the source's mount has what it takes.
func (b *builder) propagate(p runtimeapi.MountPropagation, src string) (string, error) {
	check := func(what string, fields ...string) error {
		optional, at, err := b.host.Propagation(src)
		if err != nil {
			return err
		}
		for _, f := range fields {
			if strings.Contains(optional, f) {
				return nil
			}
		}
		return fmt.Errorf("path %q is mounted on %q but it is not a %s mount", src, at, what)
	}
	switch p {
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		b.spec.Linux.RootfsPropagation = "rshared"
		return "rshared", check("shared", "shared:")
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		if b.spec.Linux.RootfsPropagation != "rshared" {
			b.spec.Linux.RootfsPropagation = "rslave"
		}
		return "rslave", check("shared or slave", "shared:", "master:")
	default:
		return "rprivate", nil
	}
}

// access gives "rw", "ro" or "rro".
func (b *builder) access(m *runtimeapi.Mount) (string, error) {
	switch {
	case !m.GetReadonly() && m.GetRecursiveReadOnly():
		return "", fmt.Errorf("recursive read-only mount conflicts with RW mount (hostPath=%q)", m.GetHostPath())
	case !m.GetReadonly():
		return "rw", nil
	case !m.GetRecursiveReadOnly():
		return "ro", nil
	case !b.host.RecursiveReadOnly:
		return "", fmt.Errorf("this kernel does not support recursive read-only mounts (hostPath=%q)", m.GetHostPath())
	case m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		return "", fmt.Errorf("recursive read-only mount needs private propagation, got %q (hostPath=%q)", m.GetPropagation(), m.GetHostPath())
	}
	return "rro", nil
}

// imageMount mounts an image's content, read-only, from where the container's maker has put it.
func (b *builder) imageMount(m *runtimeapi.Mount, out specs.Mount) (specs.Mount, error) {
	if m.GetHostPath() != "" {
		return out, fmt.Errorf("the mount on %q has both an image and a host path", m.GetContainerPath())
	}
	out.Source = ImageDir(b.Private, len(b.out.Images))
	out.Options = append(append(out.Options, "rprivate", "ro"), m.GetMountOptions()...)
	b.out.Images = append(b.out.Images, ImageRef{Image: m.GetImage().GetImage(), SubPath: m.GetImageSubPath()})
	return out, nil
}
