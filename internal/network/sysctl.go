package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
)

// setSysctl writes a value below /proc/sys/net when it is not that already, so that a read-only /proc with the
// right values will do.
func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys/net", name)
	if now, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(now)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}

// hasIPv6 reports whether the kernel has IPv6 at all.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// quietInside makes the settings of a Pod's link that only sysctl can, before it is up: routes come from the node alone,
// and the link-local address is the one made of the MAC, the only one that the bridge lets the Pod use. What sysctl shows
// and sets is of the network namespace of the thread.
func quietInside(ns netns.NsHandle) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the node's network namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the Pod's network namespace: %w", err)
	}
	const link = "/proc/sys/net/ipv6/conf/" + podLink
	// Not there on a machine without IPv6.
	if err = os.WriteFile(link+"/accept_ra", []byte("0"), 0); err == nil {
		err = setSysctl("ipv6/conf/"+podLink+"/addr_gen_mode", "0")
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if back := netns.Set(own); back != nil {
		// The thread stays locked, so that it ends with its goroutine and serves nothing else.
		return errors.Join(err, fmt.Errorf("leave the Pod's network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// enableForwarding lets the node route between its Pods and the outside. A machine that forwards IPv6 no longer
// listens to router advertisements unless told so; links that do listen are told so first, or the machine would
// lose its default route.
func enableForwarding(v4, v6 bool) error {
	if v4 {
		if err := setSysctl("ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if !v6 {
		return nil
	}
	links, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	for _, path := range links {
		if now, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(now)) == "1" {
			// A link that went away meanwhile is no loss.
			_ = os.WriteFile(path, []byte("2"), 0)
		}
	}
	return setSysctl("ipv6/conf/all/forwarding", "1")
}
