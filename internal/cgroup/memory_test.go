package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReadMemory(t *testing.T) {
	const v1Stat = "cache 1\nrss 2\ntotal_cache 700\ntotal_rss 300\ntotal_pgfault 11\ntotal_pgmajfault 5\ntotal_inactive_file 400\n"
	const v2Stat = "anon 300\nfile 700\ninactive_file 400\npgfault 11\npgmajfault 5\nanon_thp 9\n"
	for name, tc := range map[string]struct {
		mode  Mode
		files map[string]string
		want  MemoryStats
	}{
		"v1": {V1, map[string]string{"memory.stat": v1Stat, "memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": "4096\n"},
			MemoryStats{Usage: 1000, WorkingSet: 600, RSS: 300, PageFaults: 11, MajorFaults: 5, Limit: 4096}},
		"v1, no limit": {V1, map[string]string{"memory.stat": v1Stat, "memory.usage_in_bytes": "100\n", "memory.limit_in_bytes": "9223372036854771712\n"},
			MemoryStats{Usage: 100, RSS: 300, PageFaults: 11, MajorFaults: 5}},
		"v2": {V2, map[string]string{"memory.stat": v2Stat, "memory.current": "1100\n", "memory.max": "max\n"},
			MemoryStats{Usage: 1100, WorkingSet: 700, RSS: 300, PageFaults: 11, MajorFaults: 5}},
		"the root of v2": {V2, map[string]string{"memory.stat": v2Stat},
			MemoryStats{Usage: 1000, WorkingSet: 600, RSS: 300, PageFaults: 11, MajorFaults: 5}},
	} {
		dir := t.TempDir()
		for file, text := range tc.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readMemory(tc.mode, dir); err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := readMemory(V1, filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

func TestNotices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups are root's")
	}
	m, err := New("/")
	if err != nil {
		t.Skip(err)
	}
	if m.Mode() == V1 {
		n, err := m.UsageNotice("/", 1<<50)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, n)
	} else if _, err := m.UsageNotice("/", 1<<50); !errors.Is(err, ErrNoNotice) {
		t.Errorf("v2: %v", err)
	}
	n, err := PressureNotice()
	if errors.Is(err, ErrNoNotice) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ended(t, n)
}

// ended closes a notice that somebody waits for, which ends that.
func ended(t *testing.T, n *Notice) {
	t.Helper()
	end := make(chan error)
	go func() {
		for {
			if err := n.Wait(); err != nil {
				end <- err
				return
			}
		}
	}()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-end; !errors.Is(err, os.ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
}
