package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// resourceMetrics returns the kubelet's /metrics/resource, in Prometheus' text format: names, help and the times of
// the samples are upstream's.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	failed := 0.0
	pods, started, err := s.measure(r.Context())
	if err != nil {
		klog.FromContext(r.Context()).Error(err, "Could not ask the runtime for statistics")
		failed = 1
	}
	var t text
	if err == nil {
		s.nodeResources(r.Context(), &t)
		podResources(&t, pods, started)
	}
	for _, name := range []string{"resource_scrape_error", "scrape_error"} { // the latter is deprecated
		help := "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
		if name == "scrape_error" {
			help = "[ALPHA] (Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 otherwise"
		}
		t.family(name, "gauge", help, sample{value: failed})
	}
	t.answer(w)
}

// measure asks the runtime for what its Pods use, and for when its containers were made, in nanoseconds of the epoch.
func (s *Server) measure(ctx context.Context) ([]*runtimeapi.PodSandboxStats, map[string]int64, error) {
	pods, err := s.c.Runtime.ListPodSandboxStats(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	list, err := s.c.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	started := make(map[string]int64, len(list))
	for _, c := range list {
		started[c.GetId()] = c.GetCreatedAt()
	}
	return pods, started, nil
}

func (s *Server) nodeResources(ctx context.Context, t *text) {
	node := s.nodeUse(ctx)
	if c := node.CPU; c != nil && c.UsageCoreNanoSeconds != nil {
		t.family("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
			sample{"", seconds(*c.UsageCoreNanoSeconds), c.Time.UnixNano()})
	}
	if m := node.Memory; m != nil && m.WorkingSetBytes != nil {
		t.family("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes",
			sample{"", float64(*m.WorkingSetBytes), m.Time.UnixNano()})
	}
}

func podResources(t *text, pods []*runtimeapi.PodSandboxStats, started map[string]int64) {
	var start, cpu, memory, swap, swapLimit, podCPU, podMemory []sample
	for _, p := range pods {
		m := p.GetAttributes().GetMetadata()
		labels := fmt.Sprintf("namespace=%q,pod=%q", m.GetNamespace(), m.GetName())
		l := p.GetLinux()
		podCPU = add(podCPU, labels, l.GetCpu().GetUsageCoreNanoSeconds(), 1/float64(time.Second), l.GetCpu().GetTimestamp())
		podMemory = add(podMemory, labels, l.GetMemory().GetWorkingSetBytes(), 1, l.GetMemory().GetTimestamp())
		for _, c := range l.GetContainers() {
			of := fmt.Sprintf("container=%q,%s", c.GetAttributes().GetMetadata().GetName(), labels)
			if at, ok := started[c.GetAttributes().GetId()]; ok {
				start = append(start, sample{of, float64(at) / float64(time.Second), 0})
			}
			cpu = add(cpu, of, c.GetCpu().GetUsageCoreNanoSeconds(), 1/float64(time.Second), c.GetCpu().GetTimestamp())
			memory = add(memory, of, c.GetMemory().GetWorkingSetBytes(), 1, c.GetMemory().GetTimestamp())
			swap = add(swap, of, c.GetSwap().GetSwapUsageBytes(), 1, c.GetSwap().GetTimestamp())
			if a := c.GetSwap().GetSwapAvailableBytes(); a != nil {
				limit := float64(a.GetValue() + c.GetSwap().GetSwapUsageBytes().GetValue())
				swapLimit = append(swapLimit, sample{of, limit, c.GetSwap().GetTimestamp()})
			}
		}
	}
	t.family("container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds", start...)
	t.family("container_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the container in core-seconds", cpu...)
	t.family("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes", memory...)
	t.family("container_swap_usage_bytes", "gauge", "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems", swap...)
	t.family("container_swap_limit_bytes", "gauge", "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems", swapLimit...)
	t.family("pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", podCPU...)
	t.family("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes", podMemory...)
}

// sample is one value of a metric; labels is the text between the braces, at when it was read in nanoseconds of the
// epoch, 0 for the time of the answer.
type sample struct {
	labels string
	value  float64
	at     int64
}

// add adds what the runtime has told, in the metric's unit; what it has not told is left out.
func add(to []sample, labels string, v *runtimeapi.UInt64Value, unit float64, at int64) []sample {
	if v == nil {
		return to
	}
	return append(to, sample{labels, float64(v.GetValue()) * unit, at})
}

func seconds(nanoseconds uint64) float64 { return float64(nanoseconds) / float64(time.Second) }

// text is an answer in Prometheus' text format (its exposition formats, version 0.0.4).
type text struct{ bytes.Buffer }

// family writes a metric with its samples; one without samples is left out.
func (t *text) family(name, kind, help string, samples ...sample) {
	if len(samples) == 0 {
		return
	}
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for _, s := range samples {
		t.WriteString(name)
		if s.labels != "" {
			t.WriteString("{" + s.labels + "}")
		}
		t.WriteString(" " + strconv.FormatFloat(s.value, 'g', -1, 64))
		if s.at != 0 {
			t.WriteString(" " + strconv.FormatInt(s.at/int64(time.Millisecond), 10))
		}
		t.WriteByte('\n')
	}
}

func (t *text) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(t.Bytes())
}
