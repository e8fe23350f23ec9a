// Package embedded carries the container runtime's static programs inside the main binary and unpacks them.
package embedded

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// files is this folder: the README always, and the programs when hack/build-shim.sh has built them.
//
//go:embed *
var files embed.FS

// Programs are the paths of the unpacked programs.
type Programs struct{ Shim, OCI, Pause string }

// names are the programs as they are called once unpacked, which is what users see in their list of processes.
var names = map[string]string{"shim.bin": "podium-shim", "oci.bin": "podium-oci", "pause.bin": "pause"}

// ErrNotBuilt is returned by Unpack when this binary was built without the programs.
var ErrNotBuilt = errors.New("this binary was built without the container runtime's programs: build it with «make build», which runs hack/build-shim.sh first")

// Unpack writes the programs below dir, into a folder named by their content: programs of another version that still
// run, as shims do over an upgrade, stay untouched there. What is there already is used. Folders of other versions
// that no process uses any more are removed.
func Unpack(dir string) (Programs, error) {
	sum := sha256.New()
	content := map[string][]byte{}
	for _, name := range []string{"oci.bin", "pause.bin", "shim.bin"} {
		data, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return Programs{}, ErrNotBuilt
		}
		if err != nil {
			return Programs{}, err
		}
		content[name] = data
		_, _ = sum.Write(data)
	}
	version := hex.EncodeToString(sum.Sum(nil)[:8])
	to := filepath.Join(dir, version)
	if err := unpack(to, content); err != nil {
		return Programs{}, fmt.Errorf("unpack the container runtime's programs: %w", err)
	}
	removeUnused(dir, version)
	in := func(name string) string { return filepath.Join(to, names[name]) }
	return Programs{Shim: in("shim.bin"), OCI: in("oci.bin"), Pause: in("pause.bin")}, nil
}

// unpack makes the folder with the programs, whole or not at all.
func unpack(to string, content map[string][]byte) error {
	if complete(to, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(to), ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, data := range content {
		if err := os.WriteFile(filepath.Join(tmp, names[name]), data, 0o700); err != nil {
			return err
		}
	}
	_ = os.RemoveAll(to) // it is not complete
	return os.Rename(tmp, to)
}

// complete reports whether the programs are there with their content.
func complete(dir string, content map[string][]byte) bool {
	for name, data := range content {
		have, err := os.ReadFile(filepath.Join(dir, names[name]))
		if err != nil || string(have) != string(data) {
			return false
		}
	}
	return true
}

// removeUnused removes other versions' folders unless a process runs from there, or may: a shim starts its version's
// other programs as long as it lives. On any doubt they stay.
func removeUnused(dir, version string) {
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return
	}
	used := map[string]bool{version: true}
	for _, exe := range exes {
		target, err := os.Readlink(exe)
		if err != nil {
			continue
		}
		if rel, ok := strings.CutPrefix(target, dir+"/"); ok {
			used[filepath.Dir(rel)] = true
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !used[e.Name()] {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}
