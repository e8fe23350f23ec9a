package server

import (
	"fmt"
	"net/http"
	"runtime"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// cadvisorMetrics returns /metrics/cadvisor: of what cAdvisor tells under these names and labels, that which the
// runtime knows. As there, a Pod as a whole has no container label, and its network is counted with it.
func (s *Server) cadvisorMetrics(w http.ResponseWriter, r *http.Request) {
	pods, started, err := s.measure(r.Context())
	if err != nil {
		http.Error(w, fmt.Sprintf("ask the runtime for statistics: %v", err), http.StatusInternalServerError)
		return
	}
	var t text
	m := map[string][]sample{}
	for _, p := range pods {
		labels := cadvisorLabels("", "", p.GetAttributes().GetMetadata())
		l := p.GetLinux()
		cadvisorUse(m, labels, l.GetCpu(), l.GetMemory())
		m["container_processes"] = add(m["container_processes"], labels, l.GetProcess().GetProcessCount(), 1, l.GetProcess().GetTimestamp())
		cadvisorNetwork(m, p)
		for _, c := range l.GetContainers() {
			of := cadvisorLabels(c.GetAttributes().GetMetadata().GetName(), c.GetAttributes().GetId(), p.GetAttributes().GetMetadata())
			cadvisorUse(m, of, c.GetCpu(), c.GetMemory())
			m["container_memory_swap"] = add(m["container_memory_swap"], of, c.GetSwap().GetSwapUsageBytes(), 1, c.GetSwap().GetTimestamp())
			layer := c.GetWritableLayer()
			m["container_fs_usage_bytes"] = add(m["container_fs_usage_bytes"], of, layer.GetUsedBytes(), 1, layer.GetTimestamp())
			if at, ok := started[c.GetAttributes().GetId()]; ok {
				m["container_start_time_seconds"] = append(m["container_start_time_seconds"], sample{of, float64(at / int64(time.Second)), 0})
			}
		}
	}
	for _, f := range cadvisorFamilies {
		t.family(f.name, f.kind, f.help, m[f.name]...)
	}
	node := s.nodeUse(r.Context())
	t.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", sample{value: float64(runtime.NumCPU())})
	if n := node.Memory; n != nil && n.AvailableBytes != nil && n.WorkingSetBytes != nil {
		t.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", sample{value: float64(*n.AvailableBytes + *n.WorkingSetBytes)})
	}
	t.answer(w)
}

// cadvisorFamilies are the metrics in the order of the answer, with cAdvisor's help.
var cadvisorFamilies = []struct{ name, kind, help string }{
	{"container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."},
	{"container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem."},
	{"container_memory_failures_total", "counter", "Cumulative count of memory allocation failures."},
	{"container_memory_rss", "gauge", "Size of RSS in bytes."},
	{"container_memory_swap", "gauge", "Container swap usage in bytes."},
	{"container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed"},
	{"container_memory_working_set_bytes", "gauge", "Current working set in bytes."},
	{"container_network_receive_bytes_total", "counter", "Cumulative count of bytes received"},
	{"container_network_receive_errors_total", "counter", "Cumulative count of errors encountered while receiving"},
	{"container_network_transmit_bytes_total", "counter", "Cumulative count of bytes transmitted"},
	{"container_network_transmit_errors_total", "counter", "Cumulative count of errors encountered while transmitting"},
	{"container_processes", "gauge", "Number of processes running inside the container."},
	{"container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds."},
}

func cadvisorLabels(container, id string, pod *runtimeapi.PodSandboxMetadata) string {
	return fmt.Sprintf("container=%q,name=%q,namespace=%q,pod=%q", container, id, pod.GetNamespace(), pod.GetName())
}

func cadvisorUse(m map[string][]sample, labels string, c *runtimeapi.CpuUsage, mem *runtimeapi.MemoryUsage) {
	put := func(name, labels string, v *runtimeapi.UInt64Value, unit float64, at int64) {
		m[name] = add(m[name], labels, v, unit, at)
	}
	put("container_cpu_usage_seconds_total", labels+`,cpu="total"`, c.GetUsageCoreNanoSeconds(), 1/float64(time.Second), c.GetTimestamp())
	put("container_memory_usage_bytes", labels, mem.GetUsageBytes(), 1, mem.GetTimestamp())
	put("container_memory_working_set_bytes", labels, mem.GetWorkingSetBytes(), 1, mem.GetTimestamp())
	put("container_memory_rss", labels, mem.GetRssBytes(), 1, mem.GetTimestamp())
	put("container_memory_failures_total", labels+`,failure_type="pgfault",scope="hierarchy"`, mem.GetPageFaults(), 1, mem.GetTimestamp())
	put("container_memory_failures_total", labels+`,failure_type="pgmajfault",scope="hierarchy"`, mem.GetMajorPageFaults(), 1, mem.GetTimestamp())
}

func cadvisorNetwork(m map[string][]sample, p *runtimeapi.PodSandboxStats) {
	n := p.GetLinux().GetNetwork()
	links := n.GetInterfaces()
	if d := n.GetDefaultInterface(); d != nil {
		links = append([]*runtimeapi.NetworkInterfaceUsage{d}, links...)
	}
	for _, i := range links {
		labels := cadvisorLabels("", "", p.GetAttributes().GetMetadata()) + fmt.Sprintf(",interface=%q", i.GetName())
		for name, v := range map[string]*runtimeapi.UInt64Value{
			"container_network_receive_bytes_total": i.GetRxBytes(), "container_network_receive_errors_total": i.GetRxErrors(),
			"container_network_transmit_bytes_total": i.GetTxBytes(), "container_network_transmit_errors_total": i.GetTxErrors(),
		} {
			m[name] = add(m[name], labels, v, 1, n.GetTimestamp())
		}
	}
}
