package cri

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStats is what a Pod uses: its cgroup with all in it, its network, and each container.
func (r *Runtime) PodSandboxStats(ctx context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	s, err := r.sandboxStats(ctx, sb)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: s}, nil
}

// ListPodSandboxStats is what all that are ready use, of those that the filter lets pass.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: r.listSandboxStats(ctx, req.GetFilter())}, nil
}

func (r *Runtime) listSandboxStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) []*runtimeapi.PodSandboxStats {
	var out []*runtimeapi.PodSandboxStats
	for _, sb := range r.store.allSandboxes() {
		if !sb.get().Ready || !passes(sb.ID, f.GetId()) || !matches(sb.config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		if s, err := r.sandboxStats(ctx, sb); err == nil { // else it has ended meanwhile
			out = append(out, s)
		}
	}
	return out
}

func (r *Runtime) sandboxStats(ctx context.Context, sb *sandbox) (*runtimeapi.PodSandboxStats, error) {
	out := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: sb.ID, Metadata: sb.config.GetMetadata(), Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(),
		},
		Linux: &runtimeapi.LinuxPodSandboxStats{},
	}
	if !sb.get().Ready {
		return out, nil
	}
	s, err := r.machine.CgroupStats(path.Dir(sb.Cgroup)) // the Pod's own, above pause's
	if err != nil {
		return nil, fmt.Errorf("read the cgroup of sandbox %q: %w", sb.ID, err)
	}
	l := out.Linux
	l.Cpu, l.Memory, l.Io = cpuUsage(s), memoryUsage(s), ioUsage(s)
	l.Process = &runtimeapi.ProcessUsage{Timestamp: s.At.UnixNano(), ProcessCount: value(s.Processes)}
	l.Network = r.networkUsage(sb)
	for _, c := range r.store.containersOf(sb.ID) {
		if c.get().State != stateRunning {
			continue
		}
		cs, err := r.statsOf(ctx, c)
		if err != nil {
			return nil, err
		}
		l.Containers = append(l.Containers, cs)
	}
	return out, nil
}

// defaultInterface is a Pod's link to its network.
const defaultInterface = "eth0"

// networkUsage reads the counters of the Pod's links; nil on the host's network.
func (r *Runtime) networkUsage(sb *sandbox) *runtimeapi.NetworkUsage {
	if sb.NetNS == "" {
		return nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", sb.get().PausePID))
	if err != nil {
		return nil
	}
	return parseNetDev(string(data), r.clock.Now().UnixNano())
}

// parseNetDev reads the kernel's table of links: two lines of heading, then for each its name and sixteen counters.
func parseNetDev(table string, now int64) *runtimeapi.NetworkUsage {
	out := &runtimeapi.NetworkUsage{Timestamp: now}
	for line := range strings.Lines(table) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || len(fields) < 16 || name == "lo" {
			continue
		}
		count := func(i int) *runtimeapi.UInt64Value {
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			return value(n)
		}
		u := &runtimeapi.NetworkInterfaceUsage{Name: name, RxBytes: count(0), RxErrors: count(2), TxBytes: count(8), TxErrors: count(10)}
		if name == defaultInterface {
			out.DefaultInterface = u
		} else {
			out.Interfaces = append(out.Interfaces, u)
		}
	}
	return out
}
