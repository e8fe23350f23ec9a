package stats

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"podium.dev/podium/internal/node/container"
)

// Group is what a Pod as a whole uses of memory and processes: what its cgroup counts. ok is false for a Pod that has
// none.
func (s *Source) Group(p *v1.Pod) (out stats.PodStats, ok bool) {
	g, err := s.c.Tree.Stats(container.PodCgroup(p))
	if err != nil {
		return out, false
	}
	out.PodRef = reference(p)
	m := memory(g.Memory, g.At)
	out.Memory = m.Stats()
	out.ProcessStats = &stats.ProcessStats{ProcessCount: &g.Processes}
	return out, true
}

// Containers asks the runtime what each running container of the Pod uses, its writable layer's files among it.
func (s *Source) Containers(ctx context.Context, p *v1.Pod) ([]stats.ContainerStats, error) {
	list, err := s.c.Runtime.ListContainerStats(ctx, &runtimeapi.ContainerStatsFilter{
		LabelSelector: map[string]string{container.LabelPodUID: string(p.UID)},
	})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime what the containers of pod %s use: %w", p.Name, err)
	}
	room := s.layerRoom(ctx)
	var out []stats.ContainerStats
	for _, c := range list {
		if c.Cpu != nil || c.Memory != nil { // else it has ended
			out = append(out, containerStats(c, room))
		}
	}
	return out, nil
}

// Storage is what the Pod keeps on disk: its containers' layers and logs and its volumes.
func (s *Source) Storage(ctx context.Context, p *v1.Pod) (out stats.PodStats, err error) {
	disks, err := s.Disks(ctx)
	if err != nil {
		return out, err
	}
	layers, err := s.measure(p, string(p.UID), func(m *measured) (err error) {
		m.inner, err = s.Containers(ctx, p)
		return err
	})
	if err != nil {
		return out, err
	}
	out.PodRef = reference(p)
	out.Containers = append(out.Containers, layers.inner...)
	s.addStorage(ctx, p, disks.Node.Room(), &out)
	return out, nil
}

// layerRoom is the file system of containers' writable layers, nil when it cannot be read.
func (s *Source) layerRoom(ctx context.Context) *stats.FsStats {
	disks, err := s.Disks(ctx)
	if err != nil {
		return nil
	}
	return disks.Containers.Room()
}

func reference(p *v1.Pod) stats.PodReference {
	return stats.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)}
}

// podStats is what the runtime says of a Pod, without what only the node knows.
func podStats(p *runtimeapi.PodSandboxStats, room *stats.FsStats) stats.PodStats {
	m, l := p.GetAttributes().GetMetadata(), p.GetLinux()
	out := stats.PodStats{
		PodRef:  stats.PodReference{Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid()},
		CPU:     cpuStats(l.GetCpu()),
		Memory:  memoryStats(l.GetMemory()),
		IO:      ioStats(l.GetIo()),
		Network: networkStats(l.GetNetwork()),
	}
	if n := l.GetProcess(); n != nil {
		out.ProcessStats = &stats.ProcessStats{ProcessCount: value(n.ProcessCount)}
	}
	for _, c := range l.GetContainers() {
		out.Containers = append(out.Containers, containerStats(c, room))
	}
	out.Swap = sumSwap(out.Containers)
	return out
}

func containerStats(c *runtimeapi.ContainerStats, room *stats.FsStats) stats.ContainerStats {
	out := stats.ContainerStats{
		Name:   c.GetAttributes().GetMetadata().GetName(),
		CPU:    cpuStats(c.GetCpu()),
		Memory: memoryStats(c.GetMemory()),
		IO:     ioStats(c.GetIo()),
		Swap:   swapStats(c.GetSwap()),
	}
	if l := c.GetWritableLayer(); l != nil {
		fs := stats.FsStats{}
		if room != nil {
			fs = *room
		}
		fs.Time, fs.UsedBytes, fs.InodesUsed = timeOf(l.Timestamp), value(l.UsedBytes), value(l.InodesUsed)
		out.Rootfs = &fs
	}
	return out
}

func networkStats(n *runtimeapi.NetworkUsage) *stats.NetworkStats {
	if n.GetDefaultInterface() == nil {
		return nil
	}
	one := func(i *runtimeapi.NetworkInterfaceUsage) stats.InterfaceStats {
		return stats.InterfaceStats{
			Name: i.Name, RxBytes: value(i.RxBytes), TxBytes: value(i.TxBytes), RxErrors: value(i.RxErrors), TxErrors: value(i.TxErrors),
		}
	}
	out := &stats.NetworkStats{Time: timeOf(n.Timestamp), InterfaceStats: one(n.DefaultInterface)}
	out.Interfaces = append(out.Interfaces, out.InterfaceStats)
	for _, i := range n.Interfaces {
		out.Interfaces = append(out.Interfaces, one(i))
	}
	return out
}

func cpuStats(c *runtimeapi.CpuUsage) *stats.CPUStats {
	if c == nil {
		return nil
	}
	return &stats.CPUStats{
		Time: timeOf(c.Timestamp), UsageNanoCores: value(c.UsageNanoCores), UsageCoreNanoSeconds: value(c.UsageCoreNanoSeconds), PSI: psi(c.Psi),
	}
}

func memoryStats(m *runtimeapi.MemoryUsage) *stats.MemoryStats {
	if m == nil {
		return nil
	}
	return &stats.MemoryStats{
		Time: timeOf(m.Timestamp), AvailableBytes: value(m.AvailableBytes), UsageBytes: value(m.UsageBytes), WorkingSetBytes: value(m.WorkingSetBytes),
		RSSBytes: value(m.RssBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults), PSI: psi(m.Psi),
	}
}

func ioStats(i *runtimeapi.IoUsage) *stats.IOStats {
	if i == nil {
		return nil
	}
	return &stats.IOStats{Time: timeOf(i.Timestamp), PSI: psi(i.Psi)}
}

func psi(p *runtimeapi.PsiStats) *stats.PSIStats {
	if p == nil {
		return nil
	}
	one := func(d *runtimeapi.PsiData) stats.PSIData {
		return stats.PSIData{Total: d.GetTotal(), Avg10: d.GetAvg10(), Avg60: d.GetAvg60(), Avg300: d.GetAvg300()}
	}
	return &stats.PSIStats{Full: one(p.Full), Some: one(p.Some)}
}

func swapStats(w *runtimeapi.SwapUsage) *stats.SwapStats {
	if w == nil {
		return nil
	}
	return &stats.SwapStats{Time: timeOf(w.Timestamp), SwapAvailableBytes: value(w.SwapAvailableBytes), SwapUsageBytes: value(w.SwapUsageBytes)}
}

// sumSwap is the swap of a Pod: CRI has none of its own for it.
func sumSwap(containers []stats.ContainerStats) *stats.SwapStats {
	var at metav1.Time
	var used, available uint64
	for i := range containers {
		if w := containers[i].Swap; w != nil {
			at = w.Time
			used += deref(w.SwapUsageBytes)
			available += deref(w.SwapAvailableBytes)
		}
	}
	if at.IsZero() {
		return nil
	}
	return &stats.SwapStats{Time: at, SwapUsageBytes: &used, SwapAvailableBytes: &available}
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	n := v.Value
	return &n
}

// started are when containers of a Pod that run were started, by name.
func started(p *v1.Pod) map[string]metav1.Time {
	out := map[string]metav1.Time{}
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if run := list[i].State.Running; run != nil {
				out[list[i].Name] = run.StartedAt
			}
		}
	}
	return out
}

// since is a time that is known, or the other.
func since(t *metav1.Time, other time.Time) metav1.Time {
	if t == nil || t.IsZero() {
		return metav1.NewTime(other)
	}
	return *t
}
