package preflight

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEachProblemSaysWhatAndMend(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		got  *Problem
		want string // "" when it is fine
	}{
		"root":                {checkRoot(0), ""},
		"not root":            {checkRoot(1000), "sudo"},
		"overlay":             {checkOverlay("nodev\ttmpfs\nnodev\toverlay\n", nil, false), ""},
		"overlay as a module": {checkOverlay("nodev\ttmpfs\n", nil, true), ""},
		"no overlay":          {checkOverlay("nodev\ttmpfs\n", nil, false), "modprobe overlay"},
		"no proc":             {checkOverlay("", errors.New("gone"), false), "mount /proc"},
		"controllers":         {checkCgroups([]string{"cpu", "cpuset", "memory", "pids"}), ""},
		"no memory":           {checkCgroups([]string{"cpu", "pids"}), "memory"},
		"port free":           {checkPort("127.0.0.1:0"), ""},
		"port taken":          {checkPort(taken.Addr().String()), "is taken"},
		"no such address":     {checkPort("192.0.2.254:1"), "no address"},
		"not a port":          {checkPort("localhost"), "ADDR:PORT"},
		"clock":               {checkClock(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)), ""},
		"clock at the epoch":  {checkClock(time.Unix(0, 0)), "1970"},
		"disk":                {checkDisk(filepath.Join(t.TempDir(), "not", "there", "yet")), ""},
		"root is a file":      {checkDisk(file), "not a folder"},
	} {
		switch {
		case tc.want == "" && tc.got != nil:
			t.Errorf("%s: refused: %s", name, tc.got)
		case tc.want != "" && tc.got == nil:
			t.Errorf("%s: found fine", name)
		case tc.want != "" && (!strings.Contains(tc.got.String(), tc.want) || tc.got.Remedy == "" || strings.Contains(tc.got.String(), "\n")):
			t.Errorf("%s: got %q, want one line with %q and a remedy", name, tc.got, tc.want)
		}
	}
}

func TestErrorHasALineForEach(t *testing.T) {
	err := error(Error{{"a", "b"}, {"c", "d"}})
	if err.Error() != "a; b\nc; d" {
		t.Errorf("got %q", err.Error())
	}
}
