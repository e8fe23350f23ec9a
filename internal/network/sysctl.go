package network

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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
