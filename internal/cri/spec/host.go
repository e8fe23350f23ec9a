package spec

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	cseccomp "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Host is what a configuration depends on in the machine.
type Host struct {
	Hostname string
	CgroupV2 bool
	// CgroupOptions are the options of the machine's cgroup2 that a mount of it in the host's cgroup namespace would
	// take away unless it names them.
	CgroupOptions []string
	// Capabilities are those that this process may give away, in the kernel's order: "CAP_CHOWN".
	Capabilities []string
	// AppArmor says that the machine has it, Seccomp that the kernel filters system calls.
	AppArmor, Seccomp bool
	// HugePages says that their use can be limited, Swap that swap's can.
	HugePages, Swap bool
	// RecursiveReadOnly says that the kernel can make all mounts below one read-only.
	RecursiveReadOnly bool

	// Stat follows links. Resolve gives a path without links. MkdirAll makes the source of a mount.
	Stat     func(path string) (fs.FileInfo, error)
	Resolve  func(path string) (string, error)
	MkdirAll func(path string) error
	// Propagation gives the optional fields ("shared:1 master:2") and the place of the mount that a path is on.
	Propagation func(path string) (optional, mountpoint string, err error)
	// Device reads a device node, Devices all of the host's that a privileged container gets.
	Device  func(path string) (specs.LinuxDevice, error)
	Devices func() ([]specs.LinuxDevice, error)
	// ReadFile reads a seccomp profile.
	ReadFile func(path string) ([]byte, error)
	// DefaultSeccomp is the default profile for a container with the capabilities of the configuration.
	DefaultSeccomp func(*specs.Spec) *specs.LinuxSeccomp
	// DefaultAppArmor loads the default profile and returns its name.
	DefaultAppArmor func() (string, error)
	// HasAppArmor reports whether the kernel has a profile of that name.
	HasAppArmor func(name string) (bool, error)
}

// ThisHost looks at the machine.
func ThisHost(cgroupV2 bool) (Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return Host{}, err
	}
	caps, err := ownCapabilities()
	if err != nil {
		return Host{}, err
	}
	h := Host{
		Hostname: name, CgroupV2: cgroupV2, Capabilities: caps,
		AppArmor: appArmorEnabled(), Seccomp: exists("/proc/sys/kernel/seccomp"),
		RecursiveReadOnly: hasMountSetattr(),
		Stat:              os.Stat, Resolve: filepath.EvalSymlinks,
		MkdirAll:    func(p string) error { return os.MkdirAll(p, 0o755) },
		Propagation: propagation,
		Device:      device, Devices: hostDevices, ReadFile: os.ReadFile,
		DefaultSeccomp: cseccomp.DefaultProfile, DefaultAppArmor: loadAppArmor, HasAppArmor: hasAppArmor,
	}
	if cgroupV2 {
		controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		h.HugePages = strings.Contains(string(controllers), "hugetlb")
		h.Swap = exists("/proc/swaps") && v2SwapLimit()
		h.CgroupOptions = cgroupOptions()
	} else {
		h.HugePages = exists("/sys/fs/cgroup/hugetlb")
		h.Swap = exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	}
	return h, nil
}

// cgroupOptions are those of /sys/fs/cgroup that every mount of cgroup2 in its namespace sets or clears (see «Mounting»
// in the kernel's Documentation/admin-guide/cgroup-v2.rst).
func cgroupOptions() []string {
	found, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter("/sys/fs/cgroup"))
	if err != nil || len(found) == 0 {
		return nil
	}
	return keptCgroupOptions(found[0].VFSOptions)
}

func keptCgroupOptions(mounted string) []string {
	var kept []string
	for option := range strings.SplitSeq(mounted, ",") {
		switch option {
		case "nsdelegate", "favordynmods", "memory_localevents", "memory_recursiveprot", "memory_hugetlb_accounting", "pids_localevents":
			kept = append(kept, option)
		}
	}
	return kept
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// v2SwapLimit reports whether cgroups have memory.swap.max; the root has not, so one below is looked at.
func v2SwapLimit() bool {
	found, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
	return len(found) > 0
}

// hasMountSetattr reports whether the kernel knows mount_setattr(2), since 5.12.
func hasMountSetattr() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return err != unix.ENOSYS
}

// propagation finds the mount that a path is on: the one with the longest place above it, the last if there are many.
func propagation(path string) (optional, mountpoint string, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "", "", err
	}
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(mountpoint) {
			optional, mountpoint = m.Optional, m.Mountpoint
		}
	}
	if mountpoint == "" {
		return "", "", fmt.Errorf("no mount has %q", path)
	}
	return optional, mountpoint, nil
}

// device reads a node.
func device(path string) (specs.LinuxDevice, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return specs.LinuxDevice{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return specs.LinuxDevice{}, fmt.Errorf("%s: no device", path)
	}
	d := specs.LinuxDevice{
		Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: ptr(fi.Mode().Perm()), UID: &st.Uid, GID: &st.Gid,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFIFO:
		d.Type = "p"
	default:
		return specs.LinuxDevice{}, fmt.Errorf("%s: %w", path, errNotADevice)
	}
	return d, nil
}

func ptr[T any](v T) *T { return &v }
