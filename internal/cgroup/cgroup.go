// Package cgroup keeps the tree of cgroups that Pods live in: "kubepods", its QoS levels and one cgroup a Pod, on
// cgroup v1 (each controller a hierarchy of its own, hybrid set-ups included) and v2 (one hierarchy). The containers'
// own cgroups below a Pod's are made by the container runtime.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// Mode is how the kernel's controllers are mounted on this machine.
type Mode int

const (
	// V1 has each controller in a hierarchy of its own. A hybrid machine, with an empty v2 tree next to it, is V1.
	V1 Mode = 1
	// V2 has all controllers in one hierarchy.
	V2 Mode = 2
)

// String is "v1" or "v2".
func (m Mode) String() string { return fmt.Sprintf("v%d", int(m)) }

// ErrBusy is returned by Remove while processes are in the cgroup.
var ErrBusy = errors.New("cgroup has processes in it")

// ErrRoot is returned by Kill and Remove for the root of the hierarchies, which has all of the machine's processes.
var ErrRoot = errors.New("the root cgroup is not Podium's to kill or remove")

// Manager makes, changes, reads and removes cgroups below one parent. All paths given to it are relative to that
// parent, with or without a leading slash. It is safe for concurrent use.
type Manager struct {
	parent string
	mode   Mode
	roots  map[string]string // the parent's folder by controller; by "" on v2

	mu  sync.Mutex
	cpu map[string]sample
}

// New returns the manager of the tree below parent ("/" for each hierarchy's root). Nothing is made yet. The
// error says what is missing when no controller is mounted.
func New(parent string) (*Manager, error) {
	m := &Manager{parent: path.Clean("/" + parent), mode: V1, cpu: map[string]sample{}}
	if cgroups.IsCgroup2UnifiedMode() {
		m.mode = V2
	}
	lib, err := manager.New(&cgroups.Cgroup{Path: m.parent, Resources: &cgroups.Resources{SkipDevices: true}})
	if err != nil {
		return nil, fmt.Errorf("find the cgroup hierarchies: %w (mount cgroup2 on /sys/fs/cgroup)", err)
	}
	m.roots = lib.GetPaths()
	if _, ok := m.roots["memory"]; m.mode == V1 && !ok {
		return nil, errors.New("find the cgroup hierarchies: the memory controller is not mounted (mount cgroup2 on /sys/fs/cgroup, or the v1 controllers below it)")
	}
	return m, nil
}

// Mode is this machine's.
func (m *Manager) Mode() Mode { return m.mode }

// Path is the cgroup's path from each hierarchy's root: what CRI calls a cgroup parent.
func (m *Manager) Path(p string) string { return path.Join(m.parent, path.Clean("/"+p)) }

// Dirs are the cgroup's folders on disk by v1 controller, or by "" on v2. They need not exist.
func (m *Manager) Dirs(p string) map[string]string {
	dirs := make(map[string]string, len(m.roots))
	for c, root := range m.roots {
		dirs[c] = filepath.Join(root, path.Clean("/"+p))
	}
	return dirs
}

// Dir is the cgroup's folder that holds a v1 controller's files; on v2 that is its only folder. It is empty for a
// controller that is not mounted.
func (m *Manager) Dir(p, controller string) string {
	if m.mode == V2 {
		controller = ""
	}
	root, ok := m.roots[controller]
	if !ok {
		return ""
	}
	return filepath.Join(root, path.Clean("/"+p))
}

// Exists reports whether the cgroup is there in full: in every hierarchy that Ensure makes it in, which are all but
// v1's devices, whose cgroups come with the containers.
func (m *Manager) Exists(p string) bool {
	for c, dir := range m.Dirs(p) {
		if c == "devices" {
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			return false
		}
	}
	return true
}

// Ensure makes the cgroup, and those above it, if need be and then sets what res has set; the rest stays as it is.
func (m *Manager) Ensure(p string, res Resources) error {
	lib, err := m.lib(p, res)
	if err != nil {
		return err
	}
	if err := lib.Apply(-1); err != nil {
		return fmt.Errorf("make cgroup %s: %w", m.Path(p), err)
	}
	return m.set(p, lib, res)
}

// Set changes what res has set in a cgroup that exists.
func (m *Manager) Set(p string, res Resources) error {
	lib, err := m.lib(p, res)
	if err != nil {
		return err
	}
	return m.set(p, lib, res)
}

func (m *Manager) set(p string, lib cgroups.Manager, res Resources) error {
	if res.empty() {
		return nil
	}
	if err := lib.Set(m.translate(res)); err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", m.Path(p), err)
	}
	return nil
}

func (m *Manager) lib(p string, res Resources) (cgroups.Manager, error) {
	lib, err := manager.NewWithPaths(&cgroups.Cgroup{Path: m.Path(p), Resources: m.translate(res)}, m.Dirs(p))
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", m.Path(p), err)
	}
	return lib, nil
}

// Remove removes the cgroup and all below it. A cgroup that is not there is removed already. ErrBusy when processes
// are in it: Kill them first.
func (m *Manager) Remove(p string) error {
	if m.Path(p) == "/" {
		return ErrRoot
	}
	m.forget(p)
	var errs []error
	for _, dir := range m.Dirs(p) {
		if err := removeTree(dir); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a cgroup's folder, the deepest first.
func removeTree(dir string) error {
	switch err := unix.Rmdir(dir); {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY):
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	children, err := subdirs(dir)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := removeTree(filepath.Join(dir, c)); err != nil {
			return err
		}
	}
	switch err := unix.Rmdir(dir); {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("remove %s: %w", dir, ErrBusy)
	default:
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
}

// Children are the names of the cgroups directly below, in any hierarchy, sorted by no rule. None for a cgroup that
// is not there.
func (m *Manager) Children(p string) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for _, dir := range m.Dirs(p) {
		names, err := subdirs(dir)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out, nil
}

func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
