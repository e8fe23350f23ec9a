package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/rootfs"
)

// machine is the real Machine.
type machine struct {
	cgroups *cgroup.Manager
	host    spec.Host
	boot    func() (string, error)
}

// newMachine looks at the machine that this process runs on.
func newMachine() (*machine, error) {
	m, err := cgroup.New("/")
	if err != nil {
		return nil, err
	}
	host, err := spec.ThisHost(m.Mode() == cgroup.V2)
	if err != nil {
		return nil, fmt.Errorf("look at the machine: %w", err)
	}
	return &machine{cgroups: m, host: host, boot: sync.OnceValues(readBootID)}, nil
}

func readBootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

func (m *machine) Host() spec.Host         { return m.host }
func (m *machine) BootID() (string, error) { return m.boot() }
func (m *machine) CgroupV2() bool          { return m.cgroups.Mode() == cgroup.V2 }

func (m *machine) MountPrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return fmt.Errorf("look for a mount on %s: %w", dir, err)
	}
	if !mounted {
		if err := unix.Mount("podium", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=64k"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount on %s private: %w", dir, err)
	}
	return nil
}

func (m *machine) Unmount(path string) error {
	for {
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil: // there may be another below it
		case errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

func (m *machine) Look(b *bundle.Bundle) error { return rootfs.Look(b) }

func (m *machine) MakeCgroup(path string) ([]string, error) {
	if err := m.cgroups.Ensure(path, cgroup.Resources{}); err != nil {
		return nil, err
	}
	var out []string
	for controller, dir := range m.cgroups.Dirs(path) {
		if controller != "devices" { // which Ensure leaves to the containers
			out = append(out, dir)
		}
	}
	return out, nil
}

func (m *machine) SetCgroup(path string, res cgroup.Resources) error { return m.cgroups.Set(path, res) }

func (m *machine) ClearCgroup(ctx context.Context, path string) error {
	if path == "" {
		return nil // of a record that was not written: there is no cgroup
	}
	if err := m.cgroups.Kill(ctx, path); err != nil {
		return err
	}
	return m.cgroups.Remove(path)
}

func (m *machine) CgroupStats(path string) (cgroup.Stats, error) { return m.cgroups.Stats(path) }
