package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"podium.dev/podium/test/vm/plan"
)

// prepare sets up file systems, modules, names and addresses, like the first process of a distribution.
func prepare() (plan.Plan, string, error) {
	if err := leaveRootfs(); err != nil {
		return plan.Plan{}, "", err
	}
	if err := mountAll(); err != nil {
		return plan.Plan{}, "", err
	}
	p, scenario, err := load()
	if err != nil {
		return p, "", err
	}
	for _, m := range p.Modules {
		if err := insert(m); err != nil {
			return p, "", err
		}
	}
	if err := mountDisk(); err != nil {
		return p, "", err
	}
	if err := unix.Sethostname([]byte("machine")); err != nil {
		return p, "", fmt.Errorf("set the host's name: %w", err)
	}
	for file, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward":              "1",
		"/proc/sys/kernel/printk":                    "4", // errors and worse on the console
		"/proc/sys/fs/inotify/max_user_instances":    "8192",
		"/proc/sys/net/ipv6/conf/all/accept_dad":     "0", // addresses are usable at once
		"/proc/sys/net/ipv6/conf/default/accept_dad": "0",
	} {
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return p, "", err
		}
	}
	return p, scenario, links()
}

// leaveRootfs makes the root a mount that supports pivot_root(2), which containers need; the kernel's initial
// file system does not. The root is bound to a folder, and the folder is moved on top of it.
func leaveRootfs() error {
	if err := unix.Mount("/", "/mnt", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := os.Chdir("/mnt"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change into the root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the root: %w", err)
	}
	return os.Chdir("/")
}

func mountAll() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, on string
		flags    uintptr
		options  string
	}{
		{"proc", "/proc", safe, ""},
		{"sysfs", "/sys", safe, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", safe, ""},
		{"cgroup2", "/sys/fs/cgroup", safe, "nsdelegate,memory_recursiveprot"},
		{"bpf", "/sys/fs/bpf", safe, "mode=700"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	} {
		if err := os.MkdirAll(m.on, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.on, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.on, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, "/dev/"+name); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// insert loads a kernel module.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load the module %s: %w", path, err)
	}
	return nil
}

// mountDisk mounts the machine's disk, if it has one. Its content survives the machine.
func mountDisk() error {
	const disk, on = "/dev/vda", "/disk"
	if _, err := os.Stat(disk); err != nil {
		return nil
	}
	if err := os.MkdirAll(on, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(disk, on, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", disk, on, err)
	}
	return nil
}

// links sets up an address and a default route that leads nowhere, because the machine has no network.
func links() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	eth := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}
	if err := netlink.LinkAdd(eth); err != nil {
		return fmt.Errorf("create eth0: %w", err)
	}
	address, err := netlink.ParseAddr("192.168.77.2/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth, address); err != nil {
		return fmt.Errorf("add an address to eth0: %w", err)
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set eth0 up: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IPv4(192, 168, 77, 1)}); err != nil {
		return fmt.Errorf("add a route to eth0: %w", err)
	}
	return nil
}

// openPort opens the port to the driver, the machine's only port.
func openPort() (*os.File, error) {
	found, err := filepath.Glob("/dev/vport*")
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("find the port to the driver: found %v, want one (%v)", found, err)
	}
	return os.OpenFile(found[0], os.O_WRONLY, 0)
}

// uptime returns the time since the kernel started.
func uptime() time.Duration {
	text, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(text), " ")
	seconds, _ := strconv.ParseFloat(first, 64)
	return time.Duration(seconds * float64(time.Second))
}
