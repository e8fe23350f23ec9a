// Package critest is what a container runtime needs besides its shims, in memory: a machine, images and a network. With
// it and the scripted shims of package fake the real runtime, package cri, runs in tests without root and without a
// container.
package critest

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/shim/bundle"
)

// Machine is a machine in memory. It implements cri.Machine.
type Machine struct {
	// Boot is the boot ID; another one is a reboot.
	Boot string
	// Usage is what every cgroup has used.
	Usage cgroup.Stats

	mu      sync.Mutex
	cgroups map[string]cgroup.Resources
	private map[string]bool
}

// Host is this machine, whose kernel is not asked for anything.
func (m *Machine) Host() spec.Host {
	h, err := spec.ThisHost(false)
	if err != nil {
		return spec.Host{Hostname: "test"}
	}
	h.AppArmor = false
	return h
}

// BootID is Boot.
func (m *Machine) BootID() (string, error) { return "boot-" + m.Boot, nil }

// MountPrivate notes the mount.
func (m *Machine) MountPrivate(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.private == nil {
		m.private = map[string]bool{}
	}
	m.private[dir] = true
	return nil
}

// Unmount forgets it.
func (m *Machine) Unmount(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.private, path)
	return nil
}

// Look implements cri.Machine: everything is there.
func (m *Machine) Look(*bundle.Bundle) error { return nil }

// MakeCgroup notes the cgroup.
func (m *Machine) MakeCgroup(path string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cgroups == nil {
		m.cgroups = map[string]cgroup.Resources{}
	}
	m.cgroups[path] = cgroup.Resources{}
	return []string{path}, nil
}

// SetCgroup notes the limits.
func (m *Machine) SetCgroup(path string, res cgroup.Resources) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cgroups == nil {
		m.cgroups = map[string]cgroup.Resources{}
	}
	m.cgroups[path] = res
	return nil
}

// ClearCgroup forgets the cgroup.
func (m *Machine) ClearCgroup(_ context.Context, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cgroups, path)
	return nil
}

// CgroupStats is Usage.
func (m *Machine) CgroupStats(path string) (cgroup.Stats, error) {
	if path == "" {
		return cgroup.Stats{}, fs.ErrNotExist
	}
	return m.Usage, nil
}

// CgroupV2 is false.
func (m *Machine) CgroupV2() bool { return false }

// Limits are those that a cgroup was last given.
func (m *Machine) Limits(path string) (cgroup.Resources, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res, ok := m.cgroups[path]
	return res, ok
}

// Left are the cgroups and mounts that are there.
func (m *Machine) Left() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for p := range m.cgroups {
		out = append(out, "cgroup "+p)
	}
	for p := range m.private {
		out = append(out, "mount "+p)
	}
	return out
}

// Images has every image whose name does not begin with "missing". It implements cri.Images.
type Images struct {
	// Config is every image's.
	Config ocispec.ImageConfig

	mu   sync.Mutex
	keys map[string]bool
}

// Find returns an image of that name.
func (i *Images) Find(_ context.Context, ref string) (image.Image, error) {
	if len(ref) >= 7 && ref[:7] == "missing" {
		return image.Image{}, fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	return image.Image{ID: "sha256:" + ref, Tags: []string{ref}, Config: i.Config}, nil
}

// Rootfs notes the key.
func (i *Images) Rootfs(_ context.Context, _ image.Image, key string, _ bool) ([]mount.Mount, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil {
		i.keys = map[string]bool{}
	}
	i.keys[key] = true
	return []mount.Mount{{Type: "overlay", Source: "overlay"}}, nil
}

// RemoveRootfs forgets the key.
func (i *Images) RemoveRootfs(_ context.Context, key string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, key)
	return nil
}

// Usage is a page and a file.
func (i *Images) Usage(context.Context, string) (int64, int64, error) { return 4096, 1, nil }

// Left are the keys that are there.
func (i *Images) Left() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for k := range i.keys {
		out = append(out, "snapshot "+k)
	}
	return out
}

// Network gives each sandbox the next address of 10.88.0.0/16. It implements cri.Network.
type Network struct {
	mu    sync.Mutex
	given map[string]netip.Addr
	next  uint16
	fail  error
	stuck error
}

// FailTeardown makes Teardown fail from now on; nil makes it work again.
func (n *Network) FailTeardown(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stuck = err
}

// Fail makes Setup and Ready fail from now on; nil makes them work again.
func (n *Network) Fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// Setup gives the sandbox an address, the same for the same ID.
func (n *Network) Setup(_ context.Context, req network.Request) (network.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return network.Result{}, n.fail
	}
	if n.given == nil {
		n.given = map[string]netip.Addr{}
	}
	if _, ok := n.given[req.ID]; !ok {
		n.next++
		n.given[req.ID] = netip.AddrFrom4([4]byte{10, 88, byte(n.next >> 8), byte(n.next)})
	}
	return network.Result{IPs: []netip.Addr{n.given[req.ID]}}, nil
}

// Teardown takes it back.
func (n *Network) Teardown(_ context.Context, id, _ string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck != nil {
		return n.stuck
	}
	delete(n.given, id)
	return nil
}

// Ready is the error that Fail was given.
func (n *Network) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fail
}

// Left are the sandboxes that have an address.
func (n *Network) Left() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for id := range n.given {
		out = append(out, "network of "+id)
	}
	return out
}
