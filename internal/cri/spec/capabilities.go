package spec

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// capabilityNames are the kernel's, by number.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// defaultCapabilities are what a container has that asks for nothing.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// ownCapabilities are those that this process has.
func ownCapabilities() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		hex, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read own capabilities: %w", err)
		}
		var out []string
		for i, name := range capabilityNames {
			if bits&(1<<i) != 0 {
				out = append(out, "CAP_"+name)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("/proc/self/status has no CapEff")
}

// capabilities sets the bounding, effective and permitted ones. None are ambient and none inheritable, of a privileged
// container neither: an inheritable capability outlives a change of user (CVE-2022-24769).
func (b *builder) capabilities() error {
	if b.privileged() {
		all := b.host.Capabilities
		b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		return nil
	}
	asked := b.security.GetCapabilities()
	set := slices.Clone(defaultCapabilities)
	// First «ALL», which single names then add to or take from.
	if containsAll(asked.GetAddCapabilities()) {
		set = slices.Clone(b.host.Capabilities)
	}
	if containsAll(asked.GetDropCapabilities()) {
		set = nil
	}
	for _, c := range asked.GetAddCapabilities() {
		if name := capabilityName(c); !isAll(c) && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	for _, c := range asked.GetDropCapabilities() {
		if name := capabilityName(c); !isAll(c) {
			set = slices.DeleteFunc(set, func(have string) bool { return have == name })
		}
	}
	set = b.grantable(set)
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set}
	return nil
}

// grantable leaves out what this process has not itself, which the kernel would refuse to give.
func (b *builder) grantable(set []string) []string {
	out := set[:0:0]
	for _, c := range set {
		if known(c) && !slices.Contains(b.host.Capabilities, c) {
			b.out.Notes = append(b.out.Notes, fmt.Sprintf("capability %s cannot be given: the runtime has not got it", c))
			continue
		}
		out = append(out, c)
	}
	return out
}

func known(name string) bool {
	return slices.Contains(capabilityNames[:], strings.TrimPrefix(name, "CAP_"))
}

func isAll(c string) bool { return strings.EqualFold(c, "ALL") || strings.EqualFold(c, "CAP_ALL") }

func containsAll(list []string) bool { return slices.ContainsFunc(list, isAll) }

// capabilityName gives "CAP_NET_ADMIN" for "net_admin" and for "CAP_NET_ADMIN".
func capabilityName(c string) string {
	return "CAP_" + strings.TrimPrefix(strings.ToUpper(c), "CAP_")
}
