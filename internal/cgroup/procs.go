package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Procs are the process IDs in the cgroup and all below it. On v1 those of every hierarchy, each once. None for a
// cgroup that is not there.
func (m *Manager) Procs(p string) ([]int, error) {
	dirs := m.Dirs(p)
	list := make([]string, 0, len(dirs))
	for _, d := range dirs {
		list = append(list, d)
	}
	return ProcsIn(list...)
}

// ProcsIn are the process IDs in the cgroups of these folders and all below them, each once.
func ProcsIn(dirs ...string) ([]int, error) {
	seen := map[int]bool{}
	var out []int
	for _, dir := range dirs {
		pids, err := cgroups.GetAllPids(dir)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				continue
			}
			return nil, fmt.Errorf("list the processes of cgroup %s: %w", dir, err)
		}
		for _, pid := range pids {
			if !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out, nil
}

// Kill kills every process in the cgroup and below it and returns when none is left, or when ctx ends.
func (m *Manager) Kill(ctx context.Context, p string) error {
	if m.Path(p) == "/" {
		return ErrRoot
	}
	dirs := m.Dirs(p)
	list := make([]string, 0, len(dirs))
	for _, d := range dirs {
		list = append(list, d)
	}
	return KillIn(ctx, list...)
}

// KillIn kills every process in the cgroups of these folders, again for those forked meanwhile, and waits for each
// to end. It never waits by time: a process's end wakes it.
func KillIn(ctx context.Context, dirs ...string) error {
	for ctx.Err() == nil {
		pids, err := ProcsIn(dirs...)
		if err != nil || len(pids) == 0 {
			return err
		}
		if slices.Contains(pids, os.Getpid()) || slices.Contains(pids, 1) {
			return fmt.Errorf("kill the processes of cgroups %v: this process or the machine's first is in there: %w", dirs, ErrRoot)
		}
		if err := killAll(ctx, pids); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// killAll kills the processes and waits for their end. Each is held by a pidfd, so that a number that is given to
// another process meanwhile does no harm.
func killAll(ctx context.Context, pids []int) error {
	stop, cancel, err := cancelPipe(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for _, pid := range pids {
		if err := killOne(pid, stop); err != nil {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// killOne kills a process and waits until it has ended or stop is readable. One that is gone is no error.
func killOne(pid, stop int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil // it has ended, or is a thread whose process is listed too
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	switch err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err != nil:
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return awaitReadable(fd, stop)
}

// cancelPipe returns a descriptor that is readable once ctx ends, and what to call when done with it.
func cancelPipe(ctx context.Context) (int, func(), error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, nil, os.NewSyscallError("pipe2", err)
	}
	done := make(chan struct{})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		select {
		case <-ctx.Done():
		case <-done:
		}
		_ = unix.Close(p[1])
	}()
	return p[0], func() {
		close(done)
		<-closed
		_ = unix.Close(p[0])
	}, nil
}

func awaitReadable(fd, stop int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
