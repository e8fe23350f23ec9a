package server

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// userHZ is the unit of /proc/stat, a constant of the kernel's user interface (proc_stat(5)).
const userHZ = 100

// nodeStats reads the node's own use from /proc.
func nodeStats(name string, now time.Time) stats.NodeStats {
	t := metav1.NewTime(now)
	out := stats.NodeStats{NodeName: name}
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		busy, boot := parseStat(b)
		out.CPU = &stats.CPUStats{Time: t, UsageCoreNanoSeconds: &busy}
		out.StartTime = metav1.NewTime(time.Unix(boot, 0))
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		total, available := parseMeminfo(b)
		used := total - available
		out.Memory = &stats.MemoryStats{Time: t, AvailableBytes: &available, WorkingSetBytes: &used, UsageBytes: &used}
	}
	return out
}

// parseStat reads the busy time of all processors in nanoseconds and the boot time in seconds of the epoch.
func parseStat(text []byte) (busy uint64, boot int64) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) > 8 && f[0] == "cpu":
			for i, v := range f[1:9] {
				if i == 3 || i == 4 { // idle, iowait
					continue
				}
				n, _ := strconv.ParseUint(v, 10, 64)
				busy += n * uint64(time.Second) / userHZ
			}
		case len(f) == 2 && f[0] == "btime":
			boot, _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return busy, boot
}

// parseMeminfo reads the total and the available memory in bytes.
func parseMeminfo(text []byte) (total, available uint64) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}
