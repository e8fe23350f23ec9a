package server

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// minSealedFD is above the descriptors that a new process is given, which are put in place before it runs the program
// that one of them names.
const minSealedFD = 16

// sealedProgram returns a copy of a program in memory that cannot be written to, whatever process gets hold of it
// through /proc/PID/exe (CVE-2019-5736); nor can the program itself, whose mode root may change through such a link.
func sealedProgram(path, name string) (*os.File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// Without MFD_EXEC, which older kernels than 6.3 do not know, vm.memfd_noexec may forbid to run it.
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	low := os.NewFile(uintptr(fd), name)
	defer low.Close()
	if _, err := low.Write(data); err != nil {
		return nil, err
	}
	if err := low.Chmod(0o555); err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(low.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	high, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, minSealedFD)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(high), name), nil
}
