package server

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// resourceMetrics answers with the kubelet's /metrics/resource, in Prometheus' text format.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	pods, err := s.c.Runtime.ListPodSandboxStats(r.Context(), nil)
	if err != nil {
		http.Error(w, fmt.Sprintf("ask the runtime for statistics: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	node := nodeStats(s.c.NodeName, time.Now())
	if node.CPU != nil {
		metric(w, "node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds", sample{"", seconds(*node.CPU.UsageCoreNanoSeconds)})
	}
	if node.Memory != nil {
		metric(w, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes", sample{"", float64(*node.Memory.WorkingSetBytes)})
	}
	var containerCPU, containerMemory, podCPU, podMemory []sample
	for _, p := range pods {
		m := p.GetAttributes().GetMetadata()
		labels := fmt.Sprintf("namespace=%q,pod=%q", m.GetNamespace(), m.GetName())
		podCPU, podMemory = addUse(podCPU, podMemory, labels, p.GetLinux().GetCpu(), p.GetLinux().GetMemory())
		for _, c := range p.GetLinux().GetContainers() {
			containerCPU, containerMemory = addUse(containerCPU, containerMemory,
				fmt.Sprintf("container=%q,%s", c.GetAttributes().GetMetadata().GetName(), labels), c.GetCpu(), c.GetMemory())
		}
	}
	metric(w, "container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds", containerCPU...)
	metric(w, "container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", containerMemory...)
	metric(w, "pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds", podCPU...)
	metric(w, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", podMemory...)
	metric(w, "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise", sample{"", 0})
}

// sample is one value of a metric; labels is the text between the braces.
type sample struct {
	labels string
	value  float64
}

func addUse(cpu, memory []sample, labels string, c *runtimeapi.CpuUsage, m *runtimeapi.MemoryUsage) (cpus, memories []sample) {
	if c.GetUsageCoreNanoSeconds() != nil {
		cpu = append(cpu, sample{labels, seconds(c.UsageCoreNanoSeconds.Value)})
	}
	if m.GetWorkingSetBytes() != nil {
		memory = append(memory, sample{labels, float64(m.WorkingSetBytes.Value)})
	}
	return cpu, memory
}

func seconds(nanoseconds uint64) float64 { return float64(nanoseconds) / float64(time.Second) }

func metric(w io.Writer, name, kind, help string, samples ...sample) {
	fmt.Fprintf(w, "# HELP %s [STABLE] %s\n# TYPE %s %s\n", name, help, name, kind)
	for _, s := range samples {
		labels := ""
		if s.labels != "" {
			labels = "{" + s.labels + "}"
		}
		fmt.Fprintf(w, "%s%s %s\n", name, labels, strconv.FormatFloat(s.value, 'g', -1, 64))
	}
}
