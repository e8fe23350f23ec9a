package cgroup

import (
	"fmt"
	"os"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

// Memory reads the memory of the cgroup alone, which is a small part of what Stats does. The error wraps
// fs.ErrNotExist for a cgroup that is not there.
func (m *Manager) Memory(p string) (MemoryStats, error) {
	if _, err := os.Stat(m.Dir(p, "memory")); err != nil {
		return MemoryStats{}, fmt.Errorf("read the memory of cgroup %s: %w", m.Path(p), err)
	}
	// Of v1's hierarchies only this one: the library would read all that it is given.
	dirs := map[string]string{"memory": m.Dir(p, "memory")}
	if m.mode == V2 {
		dirs = m.Dirs(p)
	}
	lib, err := manager.NewWithPaths(&cgroups.Cgroup{Path: m.Path(p), Resources: &cgroups.Resources{SkipDevices: true}}, dirs)
	if err != nil {
		return MemoryStats{}, fmt.Errorf("open cgroup %s: %w", m.Path(p), err)
	}
	raw, err := lib.Stats(&cgroups.StatsOptions{Controllers: cgroups.Memory})
	if err != nil {
		return MemoryStats{}, fmt.Errorf("read the memory of cgroup %s: %w", m.Path(p), err)
	}
	return memoryStats(m.mode, raw.MemoryStats), nil
}
