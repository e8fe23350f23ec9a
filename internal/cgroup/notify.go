package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrNoNotice is that the kernel tells nothing of the kind on this machine.
var ErrNoNotice = errors.New("the kernel does not tell of it on this machine")

// Notice is a file that can be read when the kernel has something to tell. Close ends that; a read then fails.
type Notice struct {
	file *os.File
	raw  func() error // takes one notice, or fails with EAGAIN
}

// Wait waits for the next notice. The error is os.ErrClosed after Close.
func (n *Notice) Wait() error {
	conn, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		failed = n.raw()
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return errors.Join(os.ErrClosed, err)
	}
	return failed
}

// Close ends the notices.
func (n *Notice) Close() error { return n.file.Close() }

// UsageNotice tells, on v1, whenever the memory that is charged to the cgroup comes to be more or less than a number of
// bytes. The error wraps ErrNoNotice on v2, where there is none of the kind.
func (m *Manager) UsageNotice(p string, bytes uint64) (*Notice, error) {
	if m.mode == V2 {
		return nil, fmt.Errorf("watch the memory of cgroup %s: %w", m.Path(p), ErrNoNotice)
	}
	dir := m.Dir(p, "memory")
	usage, err := os.Open(filepath.Join(dir, "memory.usage_in_bytes"))
	if err != nil {
		return nil, fmt.Errorf("watch the memory of cgroup %s: %w", m.Path(p), err)
	}
	defer usage.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the memory of cgroup %s: eventfd: %w", m.Path(p), err)
	}
	order := fmt.Sprintf("%d %d %d", fd, usage.Fd(), bytes)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.event_control"), []byte(order), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the memory of cgroup %s: %w", m.Path(p), err), unix.Close(fd))
	}
	buffer := make([]byte, 8)
	return &Notice{file: os.NewFile(uintptr(fd), "memory usage"), raw: func() error {
		_, err := unix.Read(fd, buffer)
		return err
	}}, nil
}

// stall is what PressureNotice tells of: tasks that waited for memory for 140 ms of two seconds, which they do before
// anything is killed.
const stall = "some 140000 2000000"

// PressureNotice tells, at most every two seconds, that the machine's processes wait for memory. The error wraps ErrNoNotice
// where the kernel does not measure that.
func PressureNotice() (*Notice, error) {
	const path = "/proc/pressure/memory"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w (%w)", path, ErrNoNotice, err)
	}
	if _, err := unix.Write(fd, append([]byte(stall), 0)); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w (%w)", path, ErrNoNotice, err), unix.Close(fd))
	}
	// The kernel tells by POLLPRI, which only an epoll of our own can ask for; that one is read like any file.
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = errors.Join(unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLPRI, Fd: int32(fd)}), unix.SetNonblock(poll, true))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), unix.Close(fd))
	}
	trigger := os.NewFile(uintptr(fd), path) // closed when nobody waits any more
	events := make([]unix.EpollEvent, 1)
	return &Notice{file: os.NewFile(uintptr(poll), "memory pressure"), raw: func() error {
		n, err := unix.EpollWait(poll, events, 0)
		switch {
		case err != nil:
			return err
		case n == 0:
			return unix.EAGAIN
		case events[0].Events&unix.EPOLLERR != 0:
			return errors.Join(fmt.Errorf("watch %s: the kernel has ended it", path), trigger.Close())
		}
		return nil
	}}, nil
}
