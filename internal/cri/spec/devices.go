package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// errNotADevice is returned by Host.Device for a file that is none.
var errNotADevice = errors.New("not a device node")

// devices adds the nodes that are asked for and allows their use. A privileged container gets all of the host's too,
// and may use every device, also one that is plugged in later.
func (b *builder) devices() error {
	if err := b.askedDevices(); err != nil || !b.privileged() {
		return err
	}
	all, err := b.host.Devices()
	if err != nil {
		return fmt.Errorf("list the host's devices: %w", err)
	}
	asked := map[string]bool{}
	for _, d := range b.spec.Linux.Devices {
		asked[d.Path] = true
	}
	for _, d := range all {
		if !asked[d.Path] {
			b.spec.Linux.Devices = append(b.spec.Linux.Devices, d)
		}
	}
	b.spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	return nil
}

func (b *builder) askedDevices() error {
	for _, d := range b.Container.GetDevices() {
		host, err := b.host.Resolve(d.GetHostPath())
		if err != nil {
			return fmt.Errorf("device %q: %w", d.GetHostPath(), err)
		}
		if err := b.device(host, d.GetContainerPath(), d.GetPermissions()); err != nil {
			return err
		}
	}
	return nil
}

// device adds a node, or every node below a folder.
func (b *builder) device(host, container, access string) error {
	if access == "" {
		access = "rwm"
	}
	node, err := b.host.Device(host)
	if err == nil {
		node.Path = container
		b.spec.Linux.Devices = append(b.spec.Linux.Devices, node)
		b.spec.Linux.Resources.Devices = append(b.spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: node.Type, Major: &node.Major, Minor: &node.Minor, Access: access,
		})
		return nil
	}
	if fi, serr := b.host.Stat(host); serr != nil || !fi.IsDir() {
		return fmt.Errorf("device %q: %w", host, err)
	}
	entries, err := os.ReadDir(host)
	if err != nil {
		return fmt.Errorf("device folder %q: %w", host, err)
	}
	for _, e := range entries {
		err := b.device(filepath.Join(host, e.Name()), filepath.Join(container, e.Name()), access)
		if err != nil && !errors.Is(err, errNotADevice) {
			return err
		}
	}
	return nil
}

// notDevices are folders and files of /dev that every container has of its own.
var notDevices = map[string]bool{
	"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true, "/dev/.lxc": true, "/dev/.lxd-mounts": true,
	"/dev/.udev": true, "/dev/console": true,
}

// hostDevices are all nodes below /dev but those.
func hostDevices() ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir("/dev", func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // unplugged
		case err != nil:
			return err
		case notDevices[path] && e.IsDir():
			return filepath.SkipDir
		case notDevices[path] || e.Type()&os.ModeDevice == 0 || strings.HasPrefix(e.Name(), ".tmp"):
			return nil
		}
		d, err := device(path)
		if errors.Is(err, errNotADevice) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, d)
		return nil
	})
	return out, err
}
