package logfile

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Whatever the clock does, and compressed or not, names sort in the order in which they were given.
func TestNamesSortByAge(t *testing.T) {
	path := "/logs/0.log"
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var names, compressed []string
	newest := ""
	for i := range 2500 {
		switch {
		case i == 1200:
			now = now.Add(-time.Hour) // the clock was set back
		case i%700 == 699:
			now = now.Add(time.Second)
		}
		name := Next(path, newest, now)
		if newest = name; i%2 == 0 {
			newest += Compressed
		}
		names, compressed = append(names, name), append(compressed, newest)
	}
	if !slices.IsSorted(names) || !slices.IsSorted(compressed) {
		t.Error("the names do not sort by age")
	}
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Error("a name was given twice")
	}
	if want := path + ".20260101-120000"; names[0] != want {
		t.Errorf("the first is %s, the kubelet calls it %s", names[0], want)
	}
}

func TestAsideAndExcess(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"0.log", "1.log.20260101-000000", "0.log.20260101-000001.gz", "0.log.20260101-000001", "0.log.20260101-000000_002", "0.log.20260101-000000.tmp", "0.log.else"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "0.log")
	got, err := Aside(path)
	if want := []string{path + ".20260101-000000_002", path + ".20260101-000001"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("aside: %v (%v), want %v", got, err, want)
	}
	for files, want := range map[int]int{2: 2, 3: 1, 4: 0, 9: 0} {
		if n := len(Excess(got, files)); n != want {
			t.Errorf("with at most %d files %d go, want %d", files, n, want)
		}
	}
}
