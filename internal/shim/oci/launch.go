//go:build cgo

package oci

import (
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// The two descriptors that libcontainer's init inherits from us beside its own.
const (
	cacheFD = 3 // the compiled seccomp profile, or /dev/null
	execFD  = 4 // a pipe that is closed when the user's program runs
)

// launch starts the process and returns when the user's program has taken over from libcontainer's init, or has ended:
// a signal sent from then on meets the program. libcontainer itself says so a moment too soon, when a signal still
// meets Go's runtime.
func launch(c *libcontainer.Container, p *libcontainer.Process, cacheDir string) error {
	cache := openSeccompCache(cacheDir, c.Config().Seccomp)
	defer cache.done()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	file, err := cache.orNull()
	if err != nil {
		_ = w.Close()
		return err
	}
	p.ExtraFiles = []*os.File{file, w}
	err = c.Run(p)
	_ = w.Close()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// takeFiles is the other end, in libcontainer's init, before that begins: the user's program gets neither descriptor.
func takeFiles() {
	unix.CloseOnExec(cacheFD)
	unix.CloseOnExec(execFD)
	useSeccompCache(cacheFD)
}
