package server

import (
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// summary answers with the statistics of the node's Pods, asked of the runtime now: nothing is sampled when
// nobody asks.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	pods, err := s.c.Runtime.ListPodSandboxStats(r.Context(), nil)
	if err != nil {
		http.Error(w, fmt.Sprintf("ask the runtime for statistics: %v", err), http.StatusInternalServerError)
		return
	}
	out := stats.Summary{Node: nodeStats(s.c.NodeName, time.Now())}
	for _, p := range pods {
		out.Pods = append(out.Pods, podStats(p))
	}
	writeJSON(r.Context(), w, out)
}

func podStats(p *runtimeapi.PodSandboxStats) stats.PodStats {
	m := p.GetAttributes().GetMetadata()
	out := stats.PodStats{
		PodRef: stats.PodReference{Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid()},
		CPU:    cpuStats(p.GetLinux().GetCpu()),
		Memory: memoryStats(p.GetLinux().GetMemory()),
	}
	if n := p.GetLinux().GetProcess(); n != nil {
		out.ProcessStats = &stats.ProcessStats{ProcessCount: value(n.ProcessCount)}
	}
	if n := p.GetLinux().GetNetwork().GetDefaultInterface(); n != nil {
		out.Network = &stats.NetworkStats{
			Time: at(p.GetLinux().GetNetwork().GetTimestamp()),
			InterfaceStats: stats.InterfaceStats{
				Name: n.Name, RxBytes: value(n.RxBytes), TxBytes: value(n.TxBytes), RxErrors: value(n.RxErrors), TxErrors: value(n.TxErrors),
			},
		}
	}
	for _, c := range p.GetLinux().GetContainers() {
		out.Containers = append(out.Containers, stats.ContainerStats{
			Name:   c.GetAttributes().GetMetadata().GetName(),
			CPU:    cpuStats(c.GetCpu()),
			Memory: memoryStats(c.GetMemory()),
			Rootfs: fsStats(c.GetWritableLayer()),
		})
	}
	return out
}

func cpuStats(c *runtimeapi.CpuUsage) *stats.CPUStats {
	if c == nil {
		return nil
	}
	return &stats.CPUStats{Time: at(c.Timestamp), UsageNanoCores: value(c.UsageNanoCores), UsageCoreNanoSeconds: value(c.UsageCoreNanoSeconds)}
}

func memoryStats(m *runtimeapi.MemoryUsage) *stats.MemoryStats {
	if m == nil {
		return nil
	}
	return &stats.MemoryStats{
		Time: at(m.Timestamp), AvailableBytes: value(m.AvailableBytes), UsageBytes: value(m.UsageBytes), WorkingSetBytes: value(m.WorkingSetBytes),
		RSSBytes: value(m.RssBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults),
	}
}

func fsStats(f *runtimeapi.FilesystemUsage) *stats.FsStats {
	if f == nil {
		return nil
	}
	return &stats.FsStats{Time: at(f.Timestamp), UsedBytes: value(f.UsedBytes), InodesUsed: value(f.InodesUsed)}
}

func at(nanoseconds int64) metav1.Time { return metav1.NewTime(time.Unix(0, nanoseconds)) }

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	n := v.Value
	return &n
}
