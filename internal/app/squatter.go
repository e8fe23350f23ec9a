package app

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/paths"
)

const (
	// maxSockets bounds what is read of the kernel's list of sockets: 64 MiB are some 400 000 sockets.
	maxSockets = 64 << 20
	// endSquatterWithin bounds the wait for a killed container; a process that outlives it hangs in the kernel.
	endSquatterWithin = 10 * time.Second
)

// endSquatters ends the containers of this node that listen on the API server's port. While the daemon is away nobody
// holds that port, and a Pod with the node's network may take it: the machine would have no API until somebody looked for
// that Pod by hand. The container is killed whole; when the node is up it is started again as its Pod says, and finds the
// port taken. Processes that are not of a Pod of this node stay: preflight tells of them.
func endSquatters(ctx context.Context, p paths.Paths, bind string) error {
	l, err := net.Listen("tcp", bind)
	if err == nil {
		return l.Close()
	}
	at, perr := netip.ParseAddrPort(bind)
	if perr != nil || !errors.Is(err, unix.EADDRINUSE) || os.Geteuid() != 0 {
		return nil // for preflight to tell
	}
	sockets, err := listeners(at)
	if err != nil {
		return err
	}
	groups, err := cgroup.New(p.CgroupParent)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, endSquatterWithin)
	defer cancel()
	containers, err := containerGroups(groups)
	for _, c := range containers {
		if !holds(groups, c, sockets) {
			continue
		}
		klog.FromContext(ctx).Info("A container listens on the API server's port; killing it", "bind", bind, "cgroup", c)
		err = errors.Join(err, groups.Kill(ctx, c))
	}
	if err != nil {
		return fmt.Errorf("free the API server's port %s from the Pods: %w", bind, err)
	}
	return nil
}

// containerGroups are the cgroups of the containers of all Pods: the children of the Pods', which lie in "kubepods" and in
// the classes below it.
func containerGroups(groups *cgroup.Manager) ([]string, error) {
	var out []string
	for _, class := range []string{"kubepods", "kubepods/burstable", "kubepods/besteffort"} {
		pods, err := groups.Children(class)
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			if !strings.HasPrefix(p, "pod") {
				continue
			}
			containers, err := groups.Children(path.Join(class, p))
			if err != nil {
				return nil, err
			}
			for _, c := range containers {
				out = append(out, path.Join(class, p, c))
			}
		}
	}
	return out, nil
}

// holds reports whether a process of the cgroup has one of the sockets open. What ended meanwhile has none.
func holds(groups *cgroup.Manager, group string, sockets []string) bool {
	pids, err := groups.Procs(group)
	if err != nil {
		return false
	}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && slices.Contains(sockets, to) {
				return true
			}
		}
	}
	return false
}

// listeners are the sockets of the machine that listen where a listener at the address finds the port taken, by the name
// that /proc/PID/fd has for them.
func listeners(at netip.AddrPort) ([]string, error) {
	var out []string
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list the machine's sockets: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSockets))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("list the machine's sockets: %w", err)
		}
		out = append(out, listenersIn(text, at)...)
	}
	return out, nil
}

// listenersIn reads the text of /proc/net/tcp or tcp6 (proc_net_tcp.rst): a line a socket with its number, its local
// address and port in hexadecimal, the remote ones, the state and, in the tenth place, the inode.
func listenersIn(text []byte, at netip.AddrPort) []string {
	const listens = "0A"
	var out []string
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 10 || f[3] != listens {
			continue
		}
		local, ok := kernelAddress(f[1])
		if !ok || local.Port() != at.Port() {
			continue
		}
		a, b := local.Addr().Unmap(), at.Addr().Unmap()
		if a == b || a.IsUnspecified() || b.IsUnspecified() {
			out = append(out, "socket:["+f[9]+"]")
		}
	}
	return out
}

// kernelAddress reads "0100007F:192B", whose address is a row of 32-bit words in the machine's byte order, here little
// endian, as on every machine that Podium is built for.
func kernelAddress(text string) (netip.AddrPort, bool) {
	ip, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n)), ok
}
