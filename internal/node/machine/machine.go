// Package machine tells what the machine below a node is: its processors, memory, disk, kernel and names.
package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	corev1 "k8s.io/api/core/v1"
)

// Facts are what does not change while the machine runs.
type Facts struct {
	Hostname      string
	MachineID     string // /etc/machine-id
	SystemUUID    string // the firmware's, or the machine ID where there is none
	BootID        string // changes with every boot
	KernelVersion string
	OSImage       string // PRETTY_NAME of os-release(5)
	// Capacity holds cpu, memory, ephemeral-storage and hugepages-SIZE.
	Capacity corev1.ResourceList
	// Swap is the swap space in bytes.
	Swap int64
}

// Read looks at the machine. disk is a folder on the disk that holds the Pods' files.
func Read(disk string) (Facts, error) {
	f := Facts{Capacity: corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
	}}
	var err error
	if f.Hostname, err = os.Hostname(); err != nil {
		return f, fmt.Errorf("read the machine's name: %w", err)
	}
	f.Hostname = strings.ToLower(strings.TrimSpace(f.Hostname))
	f.MachineID = firstLine("/etc/machine-id")
	f.SystemUUID = firstLine("/sys/class/dmi/id/product_uuid")
	if f.SystemUUID == "" {
		f.SystemUUID = f.MachineID
	}
	if f.BootID = firstLine("/proc/sys/kernel/random/boot_id"); f.BootID == "" {
		return f, fmt.Errorf("read the boot id: /proc/sys/kernel/random/boot_id is empty")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return f, fmt.Errorf("read the kernel's version: %w", err)
	}
	f.KernelVersion = unix.ByteSliceToString(u.Release[:])
	release, _ := os.ReadFile("/etc/os-release")
	f.OSImage = prettyName(release)

	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return f, fmt.Errorf("read the memory's size: %w", err)
	}
	memory := kibField(meminfo, "MemTotal")
	f.Capacity[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
	f.Swap = kibField(meminfo, "SwapTotal")

	var s unix.Statfs_t
	if err := unix.Statfs(disk, &s); err != nil {
		return f, fmt.Errorf("read the size of the disk below %s: %w", disk, err)
	}
	f.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(s.Blocks)*s.Bsize, resource.BinarySI)
	addHugePages(f.Capacity, "/sys/kernel/mm/hugepages")
	return f, nil
}

// addHugePages adds hugepages-SIZE for each size that the kernel has.
func addHugePages(capacity corev1.ResourceList, dir string) {
	sizes, _ := filepath.Glob(filepath.Join(dir, "hugepages-*kB"))
	for _, d := range sizes {
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(d), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(firstLine(filepath.Join(d, "nr_hugepages")), 10, 64)
		size := resource.NewQuantity(kib<<10, resource.BinarySI)
		capacity[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size.String())] = *resource.NewQuantity(n*kib<<10, resource.BinarySI)
	}
}

// prettyName reads os-release(5).
func prettyName(release []byte) string {
	for lines := bufio.NewScanner(bytes.NewReader(release)); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return "Linux"
}

// kibField reads a field of proc_meminfo(5), given there in KiB, as bytes.
func kibField(meminfo []byte, name string) int64 {
	for lines := bufio.NewScanner(bytes.NewReader(meminfo)); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(v, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// NodeIPs returns the addresses that the machine reaches others by: the source address of its default
// route of each family, or, with no route, the first global address found. IPv4 comes first.
func NodeIPs() ([]net.IP, error) {
	var ips []net.IP
	// A UDP "connection" sends nothing; it only has the kernel choose the source address.
	for _, to := range []string{"198.51.100.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		ips = append(ips, c.LocalAddr().(*net.UDPAddr).IP)
		c.Close()
	}
	if len(ips) > 0 {
		return ips, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return []net.IP{n.IP}, nil
		}
	}
	return []net.IP{net.IPv4(127, 0, 0, 1)}, nil
}
