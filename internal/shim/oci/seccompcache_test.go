//go:build cgo

package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProgramFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "x.program")
	if err := writeProgram(path, []byte("a program")); err != nil {
		t.Fatal(err)
	}
	if got, err := readProgram(path); err != nil || string(got) != "a program" {
		t.Errorf("read %q, %v", got, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]byte{}, whole...)
	changed[len(changed)-1] ^= 1
	for name, content := range map[string]string{
		"empty": "", "changed": string(changed), "cut short": string(whole[:len(whole)-1]), "zeros": strings.Repeat("\x00", len(whole)),
		"too long": strings.Repeat("x", maxSeccompProgram+1),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readProgram(path); err == nil {
			t.Errorf("%s: it is taken for a program: %q", name, got)
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*.tmp"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSealedFile is the attack: who has the descriptor opens the file again, for writing.
func TestSealedFile(t *testing.T) {
	f, err := sealedFile([]byte("deny"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.WriteAt([]byte("allow"), 0); err == nil {
		t.Error("a sealed file was written to")
	}
	if err := again.Truncate(0); err == nil {
		t.Error("a sealed file was cut short")
	}
	if _, err := unix.Mmap(int(again.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("a sealed file was mapped for writing")
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "deny" {
		t.Errorf("it holds %q, %v", got, err)
	}
}
