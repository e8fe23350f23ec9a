// Package preflight looks, before anything is touched, whether this machine can run a Podium node.
package preflight

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// minFreeBytes is what a store, a certificate authority and one small image need on the root's disk.
const minFreeBytes = 256 << 20

// oldest is a date that no working clock can be before: certificates made before it would be useless.
var oldest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Config is what is looked at.
type Config struct {
	// Root is the node's folder; it need not exist yet.
	Root string
	// Bind is the API server's ADDR:PORT.
	Bind string
}

// Problem is one reason why the node cannot run here.
type Problem struct {
	// What is wrong, on what.
	What string
	// Remedy is what to do about it.
	Remedy string
}

// String is the one line that a user reads.
func (p Problem) String() string { return p.What + "; " + p.Remedy }

// Error is every problem found, a line each.
type Error []Problem

// Error implements error.
func (e Error) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Check looks at everything and returns nil or an Error that holds every problem. It changes nothing.
func Check(c Config) error {
	var found Error
	add := func(p *Problem) {
		if p != nil {
			found = append(found, *p)
		}
	}
	if p := checkRoot(os.Geteuid()); p != nil {
		return Error{*p} // what another user may not see says nothing of the machine
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	add(checkOverlay(string(filesystems), err, moduleExists("overlay")))
	add(checkCgroups(controllers()))
	add(checkPort(c.Bind))
	add(checkClock(time.Now()))
	add(checkDisk(c.Root))
	if found == nil {
		return nil
	}
	return found
}

func checkRoot(euid int) *Problem {
	if euid == 0 {
		return nil
	}
	return &Problem{
		What:   fmt.Sprintf("podium up must be root to make namespaces, cgroups and mounts, and runs as user %d", euid),
		Remedy: "run it with sudo",
	}
}

// checkOverlay reads the text of /proc/filesystems: a line a filesystem, "nodev" before those with no disk.
func checkOverlay(filesystems string, readErr error, module bool) *Problem {
	if readErr != nil {
		return &Problem{What: "cannot read the list of filesystems: " + readErr.Error(), Remedy: "mount /proc"}
	}
	if slices.Contains(strings.Fields(filesystems), "overlay") || module {
		return nil
	}
	return &Problem{What: "this kernel has no overlay filesystem, which image layers need", Remedy: "load it with: modprobe overlay"}
}

func moduleExists(name string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	found, _ := filepath.Glob(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "kernel/fs/"+name+"fs", name+".ko*"))
	return len(found) > 0
}

// needed are the controllers without which no limit can be kept.
var needed = []string{"cpu", "memory", "pids"}

func checkCgroups(have []string) *Problem {
	var missing []string
	for _, n := range needed {
		if !slices.Contains(have, n) {
			missing = append(missing, n)
		}
	}
	if missing == nil {
		return nil
	}
	return &Problem{
		What:   "no cgroup controller is mounted for " + strings.Join(missing, ", "),
		Remedy: "mount cgroup v2 with: mount -t cgroup2 none /sys/fs/cgroup (in a container: run it with the host's cgroup namespace, writable)",
	}
}

// controllers returns the controllers that can be used, of v2 and of every v1 hierarchy mounted.
func controllers() []string {
	var have []string
	if b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		have = strings.Fields(string(b))
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return have
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, fs, ok := strings.Cut(lines.Text(), " - ")
		if !ok || !strings.HasPrefix(fs, "cgroup ") {
			continue
		}
		options := fs[strings.LastIndex(fs, " ")+1:]
		have = append(have, strings.Split(options, ",")...)
	}
	return have
}

func checkPort(bind string) *Problem {
	host, port, err := net.SplitHostPort(bind)
	if err != nil || port == "" {
		return &Problem{What: fmt.Sprintf("--bind %q is not ADDR:PORT", bind), Remedy: "give for example --bind 127.0.0.1:6443"}
	}
	l, err := net.Listen("tcp", bind)
	switch {
	case err == nil:
		l.Close()
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		return &Problem{What: fmt.Sprintf("port %s on %s is taken by another program", port, host), Remedy: "stop that program or give another port with --bind ADDR:PORT"}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return &Problem{What: fmt.Sprintf("this machine has no address %s", host), Remedy: "give one that it has with --bind ADDR:PORT"}
	default:
		return &Problem{What: fmt.Sprintf("cannot listen on %s: %v", bind, err), Remedy: "give another address with --bind ADDR:PORT"}
	}
}

func checkClock(now time.Time) *Problem {
	if now.After(oldest) {
		return nil
	}
	return &Problem{
		What:   fmt.Sprintf("the clock says %s, so no certificate made now would be valid", now.UTC().Format(time.RFC3339)),
		Remedy: "set the clock (timedatectl set-ntp true, or date -s)",
	}
}

// checkDisk looks at the nearest folder above root that exists.
func checkDisk(root string) *Problem {
	dir := root
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return &Problem{What: dir + " is not a folder", Remedy: "give another root with --root DIR"}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return &Problem{What: fmt.Sprintf("cannot use the root %s: %v", root, err), Remedy: "give another root with --root DIR"}
		}
		dir = filepath.Dir(dir)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return &Problem{What: fmt.Sprintf("cannot read the state of the disk below %s: %v", dir, err), Remedy: "give another root with --root DIR"}
	}
	if s.Flags&unix.ST_RDONLY != 0 {
		return &Problem{What: "the disk below " + dir + " is mounted read-only", Remedy: "mount it writable or give another root with --root DIR"}
	}
	if free := s.Bavail * uint64(s.Bsize); free < minFreeBytes {
		return &Problem{
			What:   fmt.Sprintf("the disk below %s has %d MiB free and needs %d", dir, free>>20, minFreeBytes>>20),
			Remedy: "free some or give another root with --root DIR",
		}
	}
	return nil
}
