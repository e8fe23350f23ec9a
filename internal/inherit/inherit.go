// Package inherit frees a process of what the one that started it left it by chance, so that it does not pass it on:
// the daemon is started from any shell, and what it starts outlives it and holds containers.
package inherit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// firstOther is the first descriptor after the standard streams.
	firstOther = 3
	// umask is that of a process that was started by init, and of containers (runc's default).
	umask = 0o022
)

// Drop sets the umask and marks every open descriptor except the standard streams to be closed in what this process
// starts. It is called first in a program, before there are files that others write to.
func Drop() error {
	unix.Umask(umask)
	return closeOnExec()
}

// closeOnExec marks the descriptors with close_range(2), which knows the flag since Linux 5.11, or one by one.
func closeOnExec() error {
	err := unix.CloseRange(firstOther, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("keep inherited descriptors from other programs: %w", os.NewSyscallError("close_range", err))
	}
	return closeEachOnExec()
}

func closeEachOnExec() error {
	return each(func(fd, _ int) { unix.CloseOnExec(fd) })
}

// Only closes the descriptors that were inherited, except the standard streams and those named, which are marked. It
// is for a program that lives long and knows what it is given. What this process has opened itself is marked to be
// closed in what it starts, as Go's runtime and package os do it: what is not, was inherited.
func Only(keep ...int) error {
	err := each(func(fd, flags int) {
		if flags&unix.FD_CLOEXEC == 0 && !slices.Contains(keep, fd) {
			_ = unix.Close(fd)
		}
	})
	return errors.Join(err, Drop())
}

// each calls do with each open descriptor except the standard streams, and its flags.
func each(do func(fd, flags int)) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list inherited descriptors: %w", err)
	}
	for _, e := range open {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < firstOther {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			do(fd, flags)
		}
	}
	return nil
}
