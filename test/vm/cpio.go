package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the "newc" format, which the kernel unpacks as its initial file system
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w     io.Writer
	seen  map[string]bool // folders written
	inode int
	err   error // the first error; nothing is written after it
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, seen: map[string]bool{"": true, ".": true}}
}

// The file types in a mode, as in inode(7).
const (
	kindDir     = 0o040000
	kindFile    = 0o100000
	kindLink    = 0o120000
	kindCharDev = 0o020000
)

// header writes the header of an entry. The body of size bytes must follow.
func (a *archive) header(name string, mode, size, major, minor int) {
	a.inode++
	a.write([]byte(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0)))
	a.write([]byte(name + "\x00"))
	a.pad(headerSize + len(name) + 1)
}

const headerSize = 110

// pad pads n bytes to a multiple of four.
func (a *archive) pad(n int) { a.write(make([]byte, -n&3)) }

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}

// parents writes the missing parent folders of a name.
func (a *archive) parents(name string) {
	if dir := path.Dir(name); !a.seen[dir] {
		a.dir(dir, 0o755)
	}
}

func (a *archive) dir(name string, perm int) {
	a.parents(name)
	a.seen[name] = true
	a.header(name, kindDir|perm, 0, 0, 0)
}

func (a *archive) bytes(name string, perm int, content []byte) {
	a.parents(name)
	a.header(name, kindFile|perm, len(content), 0, 0)
	a.write(content)
	a.pad(len(content))
}

func (a *archive) symlink(name, to string) {
	a.parents(name)
	a.header(name, kindLink|0o777, len(to), 0, 0)
	a.write([]byte(to))
	a.pad(len(to))
}

func (a *archive) device(name string, perm, major, minor int) {
	a.parents(name)
	a.header(name, kindCharDev|perm, 0, major, minor)
}

// file copies a file of this machine with its mode.
func (a *archive) file(name, from string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		a.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.err = err
		return
	}
	a.parents(name)
	a.header(name, kindFile|int(info.Mode().Perm()), int(info.Size()), 0, 0)
	if a.err == nil {
		_, a.err = io.CopyN(a.w, f, info.Size())
	}
	a.pad(int(info.Size()))
}

// tree copies the regular files below a folder.
func (a *archive) tree(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		a.file(path.Join(name, strings.TrimPrefix(filepath.ToSlash(p), filepath.ToSlash(from))), p)
		return a.err
	})
	if a.err == nil {
		a.err = err
	}
}

// close writes the trailer and returns the first error.
func (a *archive) close() error {
	a.header("TRAILER!!!", 0, 0, 0, 0)
	return a.err
}
