package stats

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"podium.dev/podium/internal/cgroup"
)

// Memory is the memory in use, in bytes.
type Memory struct {
	At time.Time
	// Usage is all, WorkingSet without what the kernel can have back at once: files that were not read of late.
	Usage, WorkingSet, RSS  uint64
	PageFaults, MajorFaults uint64
	Swap                    uint64
	// Available is what is left of a bound; nil when there is none.
	Available *uint64
}

func memory(m cgroup.MemoryStats, now time.Time) Memory {
	return Memory{
		At: now, Usage: m.Usage, WorkingSet: m.WorkingSet, RSS: m.RSS, PageFaults: m.PageFaults, MajorFaults: m.MajorFaults, Swap: m.Swap,
	}
}

// available sets what is left of a bound, of which a part is not to be had.
func (m *Memory) available(bound, reserved uint64) {
	left := bound - min(bound, m.WorkingSet)
	left -= min(left, reserved)
	m.Available = &left
}

// Stats is the memory in the summary's terms.
func (m Memory) Stats() *stats.MemoryStats {
	return &stats.MemoryStats{
		Time: metav1.NewTime(m.At), AvailableBytes: m.Available, UsageBytes: &m.Usage, WorkingSetBytes: &m.WorkingSet,
		RSSBytes: &m.RSS, PageFaults: &m.PageFaults, MajorPageFaults: &m.MajorFaults,
	}
}

func hugePages(capacity v1.ResourceList) (bytes uint64) {
	for name, q := range capacity {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			bytes += uint64(q.Value())
		}
	}
	return bytes
}

// Tasks counts the machine's processes and threads, and how many there may be at most.
type Tasks struct{ Running, Most int64 }

// ReadTasks reads them from /proc: the least of the kernel's two bounds holds.
func ReadTasks() (Tasks, error) {
	var t Tasks
	for _, bound := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		text, err := os.ReadFile(bound)
		if err != nil {
			return t, fmt.Errorf("read the most processes there may be: %w", err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return t, fmt.Errorf("read %s: %w", bound, err)
		}
		if t.Most == 0 || n < t.Most {
			t.Most = n
		}
	}
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return t, fmt.Errorf("count the processes: %w", err)
	}
	t.Running, err = parseLoadavg(string(text))
	return t, err
}

// parseLoadavg reads the count of tasks from proc_loadavg(5): 0.00 0.01 0.05 2/345 6789.
func parseLoadavg(text string) (int64, error) {
	f := strings.Fields(text)
	if len(f) != 5 {
		return 0, fmt.Errorf("read /proc/loadavg: %q has not five fields", text)
	}
	_, all, _ := strings.Cut(f[3], "/")
	n, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read /proc/loadavg: %w", err)
	}
	return n, nil
}

// sample is a reading of the processors' use.
type sample struct {
	at   time.Time
	busy uint64
	rate *uint64
}

// leastSpan is the shortest time that a rate is worked out over.
const leastSpan = 100 * time.Millisecond

// next is the sample that follows, with its rate; one that comes too soon has the rate before.
func (s sample) next(at time.Time, busy uint64) sample {
	passed := at.Sub(s.at)
	if !s.at.IsZero() && passed < leastSpan {
		return s
	}
	n := sample{at: at, busy: busy}
	if !s.at.IsZero() && busy >= s.busy {
		rate := uint64(float64(busy-s.busy) / passed.Seconds())
		n.rate = &rate
	}
	return n
}

// processors reads what all processors have done since the machine was booted, and when that was.
func (s *Source) processors() (cpu *stats.CPUStats, boot time.Time, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the use of the processors: %w", err)
	}
	busy, since := parseStat(text)
	now := s.c.Clock.Now()
	s.mu.Lock()
	s.cpu = s.cpu.next(now, busy)
	rate := s.cpu.rate
	s.mu.Unlock()
	return &stats.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: &busy, UsageNanoCores: rate}, time.Unix(since, 0), nil
}

// userHZ is the unit of /proc/stat, a constant of the kernel's user interface (proc_stat(5)).
const userHZ = 100

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
