package server

import (
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodResources(t *testing.T) {
	v := func(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }
	const at = 1_700_000_000_123_456_789
	cpu := &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: v(1_500_000_000)}
	memory := &runtimeapi.MemoryUsage{Timestamp: at, WorkingSetBytes: v(4096)}
	pods := []*runtimeapi.PodSandboxStats{{
		Attributes: &runtimeapi.PodSandboxAttributes{Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "ns", Name: "p"}},
		Linux: &runtimeapi.LinuxPodSandboxStats{Cpu: cpu, Memory: memory, Containers: []*runtimeapi.ContainerStats{
			{
				Attributes: &runtimeapi.ContainerAttributes{Id: "c", Metadata: &runtimeapi.ContainerMetadata{Name: "main"}}, Cpu: cpu, Memory: memory,
				Swap: &runtimeapi.SwapUsage{Timestamp: at, SwapUsageBytes: v(1), SwapAvailableBytes: v(2)},
			},
			{Attributes: &runtimeapi.ContainerAttributes{Id: "d", Metadata: &runtimeapi.ContainerMetadata{Name: "ended"}}},
		}},
	}}
	var out text
	podResources(&out, pods, map[string]int64{"c": 1_699_999_000_500_000_000})
	want := `# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="main",namespace="ns",pod="p"} 1.6999990005e+09
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="ns",pod="p"} 1.5 1700000000123
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="main",namespace="ns",pod="p"} 4096 1700000000123
# HELP container_swap_usage_bytes [ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems
# TYPE container_swap_usage_bytes gauge
container_swap_usage_bytes{container="main",namespace="ns",pod="p"} 1 1700000000123
# HELP container_swap_limit_bytes [ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems
# TYPE container_swap_limit_bytes gauge
container_swap_limit_bytes{container="main",namespace="ns",pod="p"} 3 1700000000123
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 1.5 1700000000123
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="ns",pod="p"} 4096 1700000000123
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s", got)
	}
}
