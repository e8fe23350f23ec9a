package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// Memory reads the memory of the cgroup alone: Usage, WorkingSet, RSS, the faults and the Limit, for little of what
// Stats costs. The error wraps fs.ErrNotExist for a cgroup that is not there.
func (m *Manager) Memory(p string) (MemoryStats, error) {
	dir := m.Dir(p, "memory")
	out, err := readMemory(m.mode, dir)
	if err != nil {
		return out, fmt.Errorf("read the memory of cgroup %s: %w", m.Path(p), err)
	}
	return out, nil
}

func readMemory(mode Mode, dir string) (out MemoryStats, err error) {
	usage, most, names := "memory.usage_in_bytes", "memory.limit_in_bytes", v1Memory
	if mode == V2 {
		usage, most, names = "memory.current", "memory.max", v2Memory
	}
	text, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return out, err
	}
	stat := parseMemoryStat(text, names)
	out.RSS, out.PageFaults, out.MajorFaults = stat.rss, stat.faults, stat.major
	switch out.Usage, err = readCount(filepath.Join(dir, usage)); {
	case mode == V2 && errors.Is(err, fs.ErrNotExist):
		// Only the root of all has none: it is what v1 says there, and unbounded.
		out.Usage = stat.rss + stat.files
	case err != nil:
		return out, err
	default:
		bound, err := readCount(filepath.Join(dir, most))
		if err != nil {
			return out, err
		}
		out.Limit = limit(bound)
	}
	out.WorkingSet = out.Usage - min(out.Usage, stat.inactive)
	return out, nil
}

// memoryStat are fields of memory.stat, in bytes but for the faults.
type memoryStat struct{ inactive, rss, files, faults, major uint64 }

// The names of the fields, in the order of memoryStat.
var (
	v1Memory = [...]string{"total_inactive_file", "total_rss", "total_cache", "total_pgfault", "total_pgmajfault"}
	v2Memory = [...]string{"inactive_file", "anon", "file", "pgfault", "pgmajfault"}
)

func parseMemoryStat(text []byte, names [5]string) (s memoryStat) {
	into := [...]*uint64{&s.inactive, &s.rss, &s.files, &s.faults, &s.major}
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		for i, wanted := range names {
			if string(name) == wanted {
				*into[i], _ = strconv.ParseUint(string(value), 10, 64)
			}
		}
	}
	return s
}

// readCount reads a file with a number; "max" is the largest.
func readCount(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
