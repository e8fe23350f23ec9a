package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Confine makes a cgroup for programs of the node itself, if need be, and limits its memory in bytes; 0 is no limit. On v1 it is in
// the hierarchy of memory alone.
func (m *Manager) Confine(p string, memory int64) error {
	if m.mode == V2 {
		var r Resources
		if memory > 0 {
			r.Memory = &memory
		}
		return m.Ensure(p, r)
	}
	dir := m.Dir(p, "memory")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup %s: %w", m.Path(p), err)
	}
	if memory <= 0 {
		memory = -1
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), strconv.AppendInt(nil, memory, 10), 0o644); err != nil {
		return fmt.Errorf("limit the memory of cgroup %s: %w", m.Path(p), err)
	}
	return nil
}

// Enter moves a process into a cgroup that Confine made. What it starts from then on is there too; the memory that it has already
// stays where it was counted.
func (m *Manager) Enter(p string, pid int) error {
	file := filepath.Join(m.Dir(p, "memory"), "cgroup.procs")
	if err := os.WriteFile(file, strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return fmt.Errorf("move process %d into cgroup %s: %w", pid, m.Path(p), err)
	}
	return nil
}
