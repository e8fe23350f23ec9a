//go:build cgo

package oci

import (
	"os"

	"golang.org/x/sys/unix"
)

// A standard stream that leads nowhere is /dev/null. It must not be the host's: the container's root could change the
// mode of that through /proc/PID/fd, for the whole machine.

// isNull reports whether the descriptor is a null device, wherever its node lies.
func isNull(fd int) bool {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// privateNull returns a null device whose node nobody else has, made in the working directory, which is the
// container's folder on the host; where that cannot be, the host's.
func privateNull() (*os.File, error) {
	const name = "null"
	_ = unix.Unlink(name)
	if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err == nil {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		_ = unix.Unlink(name)
		if err == nil {
			return f, nil // else the folder is on a file system without devices
		}
	}
	return os.OpenFile(os.DevNull, os.O_RDWR, 0)
}

// ownStreams puts a private null in the place of those standard streams of this process that are /dev/null.
func ownStreams() error {
	var null *os.File
	for fd := range 3 {
		if !isNull(fd) {
			continue
		}
		if null == nil {
			var err error
			if null, err = privateNull(); err != nil {
				return err
			}
			defer null.Close()
		}
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
}

// takeNull puts the container's own /dev/null, where it has one, in the place of those standard streams that are
// another. libcontainer does so for a container's first process only. This process is inside the container.
func takeNull() error {
	for fd := range 3 {
		if !isNull(fd) {
			continue
		}
		// Without blocking: what the container has there may be anything.
		own, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if isNull(own) {
			if _, err = unix.FcntlInt(uintptr(own), unix.F_SETFL, unix.O_RDWR); err == nil {
				err = unix.Dup3(own, fd, 0)
			}
		}
		_ = unix.Close(own)
		if err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
}
