package cgroup

import (
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"k8s.io/utils/ptr"
)

// Stats are what a cgroup, with all below it, has used. A part that the machine cannot tell is nil.
type Stats struct {
	// At is when they were read.
	At     time.Time
	CPU    CPUStats
	Memory MemoryStats
	// Processes and ProcessLimit count tasks; a limit of 0 is none.
	Processes, ProcessLimit uint64
	// IO is the pressure on it; nil on v1.
	IO *PSI
}

// CPUStats are nanoseconds.
type CPUStats struct {
	Usage, User, System uint64
	// NanoCores is the rate of use since the cgroup was last read through this Manager; nil the first time.
	NanoCores *uint64
	// Periods have passed, in Throttled of them the quota was used up, for ThrottledTime in all.
	Periods, Throttled, ThrottledTime uint64
	Pressure                          *PSI
}

// MemoryStats are bytes.
type MemoryStats struct {
	// Usage is all that is charged, the page cache included; WorkingSet is without the inactive files.
	Usage, WorkingSet uint64
	// RSS is anonymous memory.
	RSS uint64
	// Peak is the most that Usage was; 0 where the kernel does not tell.
	Peak uint64
	// Limit is 0 for none.
	Limit uint64
	// Swap is what is swapped out, SwapLimit what may be (0: no limit is known).
	Swap, SwapLimit         uint64
	PageFaults, MajorFaults uint64
	Pressure                *PSI
}

// Available is what the limit leaves beyond the working set; nil without a limit.
func (m MemoryStats) Available() *uint64 {
	if m.Limit == 0 {
		return nil
	}
	return ptr.To(m.Limit - min(m.Limit, m.WorkingSet))
}

// PSI is pressure stall information.
type PSI struct{ Some, Full Pressure }

// Pressure are percentages of time over 10, 60 and 300 seconds and the total in microseconds.
type Pressure struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// sample is a point of a cgroup's CPU use, and the rate that was found when it was taken.
type sample struct {
	at    time.Time
	usage uint64
	rate  *uint64
}

// noLimit is above what any kernel reports for "no limit" less a page or so, and below any of those reports.
const noLimit = uint64(1) << 62

// Stats reads the cgroup. The error wraps fs.ErrNotExist for one that is not there.
func (m *Manager) Stats(p string) (Stats, error) {
	return m.StatsIn(m.Path(p), m.Dirs(p))
}

// StatsIn reads the cgroup of these folders (by v1 controller, or by "" on v2); key names it among the samples that
// the rate of CPU use is worked out from.
func (m *Manager) StatsIn(key string, dirs map[string]string) (Stats, error) {
	// The library reads what is missing as zeros.
	memory := dirs["memory"]
	if m.mode == V2 {
		memory = dirs[""]
	}
	if _, err := os.Stat(memory); err != nil {
		return Stats{}, fmt.Errorf("read cgroup %s: %w", key, err)
	}
	lib, err := manager.NewWithPaths(&cgroups.Cgroup{Path: key, Resources: &cgroups.Resources{SkipDevices: true}}, dirs)
	if err != nil {
		return Stats{}, fmt.Errorf("open cgroup %s: %w", key, err)
	}
	raw, err := lib.Stats(&cgroups.StatsOptions{Controllers: cgroups.CPU | cgroups.Memory | cgroups.Pids | m.extra()})
	if err != nil {
		return Stats{}, fmt.Errorf("read cgroup %s: %w", key, err)
	}
	s := Stats{
		At: time.Now(), CPU: cpuStats(raw.CpuStats), Memory: memoryStats(m.mode, raw.MemoryStats),
		Processes: raw.PidsStats.Current, ProcessLimit: raw.PidsStats.Limit, IO: psi(raw.BlkioStats.PSI),
	}
	s.CPU.NanoCores = m.rate(key, s.At, s.CPU.Usage)
	return s, nil
}

// extra is the I/O controller on v2, for its pressure; v1 has none and would list every device.
func (m *Manager) extra() cgroups.Controller {
	if m.mode == V2 {
		return cgroups.IO
	}
	return 0
}

func cpuStats(c cgroups.CpuStats) CPUStats {
	return CPUStats{
		Usage: c.CpuUsage.TotalUsage, User: c.CpuUsage.UsageInUsermode, System: c.CpuUsage.UsageInKernelmode,
		Periods: c.ThrottlingData.Periods, Throttled: c.ThrottlingData.ThrottledPeriods,
		ThrottledTime: c.ThrottlingData.ThrottledTime, Pressure: psi(c.PSI),
	}
}

func memoryStats(mode Mode, c cgroups.MemoryStats) MemoryStats {
	inactive, rss, faults, major := "total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"
	if mode == V2 {
		inactive, rss, faults, major = "inactive_file", "anon", "pgfault", "pgmajfault"
	}
	return MemoryStats{
		Usage:      c.Usage.Usage,
		WorkingSet: c.Usage.Usage - min(c.Usage.Usage, c.Stats[inactive]),
		RSS:        c.Stats[rss], PageFaults: c.Stats[faults], MajorFaults: c.Stats[major],
		Peak: c.Usage.MaxUsage, Limit: limit(c.Usage.Limit),
		Swap: c.SwapOnlyUsage.Usage, SwapLimit: limit(c.SwapOnlyUsage.Limit),
		Pressure: psi(c.PSI),
	}
}

func limit(l uint64) uint64 {
	if l >= noLimit {
		return 0
	}
	return l
}

func psi(p *cgroups.PSIStats) *PSI {
	if p == nil {
		return nil
	}
	one := func(d cgroups.PSIData) Pressure {
		return Pressure{Avg10: d.Avg10, Avg60: d.Avg60, Avg300: d.Avg300, Total: d.Total}
	}
	return &PSI{Some: one(p.Some), Full: one(p.Full)}
}

// minSample is the shortest time that a rate is worked out over; a sooner reading returns the rate before.
const minSample = 100 * time.Millisecond

// rate notes the sample and returns nanocores since the one before.
func (m *Manager) rate(key string, at time.Time, usage uint64) *uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.cpu[key]
	passed := at.Sub(last.at)
	if ok && passed < minSample {
		return last.rate
	}
	now := sample{at: at, usage: usage}
	if ok && usage >= last.usage {
		now.rate = ptr.To(uint64(float64(usage-last.usage) / passed.Seconds()))
	}
	m.cpu[key] = now
	return now.rate
}

// forget drops the samples of a cgroup that is removed.
func (m *Manager) forget(p string) { m.Forget(m.Path(p)) }

// Forget drops the sample that StatsIn keeps under key.
func (m *Manager) Forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cpu, key)
}
