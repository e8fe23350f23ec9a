//go:build cgo

package oci

import (
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// The two descriptors that libcontainer's init inherits from us besides its own.
const (
	seccompFD = 3 // the compiled seccomp profile, sealed
	execFD    = 4 // a pipe that is closed when the user's program runs
)

// launch starts the process and returns when the user's program has taken over from libcontainer's init, or has ended:
// a signal sent from then on meets the program. libcontainer itself says so a moment too soon, when a signal still
// meets Go's runtime.
func launch(c *libcontainer.Container, p *libcontainer.Process, cacheDir string) error {
	program, err := seccompProgram(cacheDir, c.Config().Seccomp)
	if err != nil {
		return err
	}
	defer program.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p.ExtraFiles = []*os.File{program, w}
	err = c.Run(p)
	_ = w.Close()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// takeFiles is the other end, in libcontainer's init, before that begins: the user's program gets neither descriptor.
// That of the profile is not left open either, nor free for a file that libcontainer opens, which it would not close.
func takeFiles() error {
	useSeccompProgram(seccompFD)
	if err := unix.Dup3(execFD, seccompFD, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	unix.CloseOnExec(execFD)
	if os.Getenv("_LIBCONTAINER_INITTYPE") == "setns" {
		return takeNull()
	}
	return nil
}
