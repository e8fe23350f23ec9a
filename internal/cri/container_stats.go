package cri

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cgroup"
)

// Nothing is measured until somebody asks: a rate is worked out since the last time somebody did.

// ContainerStats is what a container uses.
func (r *Runtime) ContainerStats(ctx context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	s, err := r.statsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: s}, nil
}

// ListContainerStats is what all that run use, of those that the filter lets pass.
func (r *Runtime) ListContainerStats(ctx context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	return &runtimeapi.ListContainerStatsResponse{Stats: r.listContainerStats(ctx, req.GetFilter())}, nil
}

func (r *Runtime) listContainerStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) []*runtimeapi.ContainerStats {
	var out []*runtimeapi.ContainerStats
	for _, c := range r.store.allContainers() {
		if c.get().State != stateRunning || !passes(c.ID, f.GetId()) || !passes(c.SandboxID, f.GetPodSandboxId()) || !matches(c.config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		if s, err := r.statsOf(ctx, c); err == nil { // else it has ended meanwhile
			out = append(out, s)
		}
	}
	return out
}

func (r *Runtime) statsOf(ctx context.Context, c *container) (*runtimeapi.ContainerStats, error) {
	out := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
		Id: c.ID, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
	}}
	out.WritableLayer = r.layer(ctx, c)
	if c.get().State != stateRunning {
		return out, nil
	}
	s, err := r.machine.CgroupStats(c.Cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil // it has ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	out.Cpu, out.Memory, out.Swap, out.Io = cpuUsage(s), memoryUsage(s), swapUsage(s), ioUsage(s)
	return out, nil
}

func value(v uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: v} }

func cpuUsage(s cgroup.Stats) *runtimeapi.CpuUsage {
	out := &runtimeapi.CpuUsage{Timestamp: s.At.UnixNano(), UsageCoreNanoSeconds: value(s.CPU.Usage), Psi: psi(s.CPU.Pressure)}
	if s.CPU.NanoCores != nil {
		out.UsageNanoCores = value(*s.CPU.NanoCores)
	}
	return out
}

func memoryUsage(s cgroup.Stats) *runtimeapi.MemoryUsage {
	m := s.Memory
	out := &runtimeapi.MemoryUsage{
		Timestamp: s.At.UnixNano(), WorkingSetBytes: value(m.WorkingSet), UsageBytes: value(m.Usage), RssBytes: value(m.RSS),
		PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorFaults), Psi: psi(m.Pressure),
	}
	if a := m.Available(); a != nil {
		out.AvailableBytes = value(*a)
	}
	return out
}

func swapUsage(s cgroup.Stats) *runtimeapi.SwapUsage {
	out := &runtimeapi.SwapUsage{Timestamp: s.At.UnixNano(), SwapUsageBytes: value(s.Memory.Swap)}
	if s.Memory.SwapLimit > 0 {
		out.SwapAvailableBytes = value(s.Memory.SwapLimit - min(s.Memory.SwapLimit, s.Memory.Swap))
	}
	return out
}

func ioUsage(s cgroup.Stats) *runtimeapi.IoUsage {
	if s.IO == nil {
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: s.At.UnixNano(), Psi: psi(s.IO)}
}

func psi(p *cgroup.PSI) *runtimeapi.PsiStats {
	if p == nil {
		return nil
	}
	one := func(p cgroup.Pressure) *runtimeapi.PsiData {
		return &runtimeapi.PsiData{Total: p.Total, Avg10: p.Avg10, Avg60: p.Avg60, Avg300: p.Avg300}
	}
	return &runtimeapi.PsiStats{Full: one(p.Full), Some: one(p.Some)}
}

// layerAge is how old the measure of a container's writable layer may be: to take it, all its files are walked.
const layerAge = 10 * time.Second

// layerStats are the last measures.
type layerStats struct {
	mu   sync.Mutex
	last map[string]*runtimeapi.FilesystemUsage
}

func newLayerStats() *layerStats { return &layerStats{last: map[string]*runtimeapi.FilesystemUsage{}} }

func (l *layerStats) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.last, id)
}

// layer measures the container's writable layer, unless that was done just before; nil when it cannot be.
func (r *Runtime) layer(ctx context.Context, c *container) *runtimeapi.FilesystemUsage {
	now := r.clock.Now()
	r.layers.mu.Lock()
	last := r.layers.last[c.ID]
	r.layers.mu.Unlock()
	if last != nil && now.Sub(time.Unix(0, last.Timestamp)) < layerAge {
		return last
	}
	bytes, inodes, err := r.cfg.Images.Usage(ctx, c.ID)
	if err != nil {
		return nil
	}
	u := &runtimeapi.FilesystemUsage{
		Timestamp: now.UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: r.cfg.Paths.ImageStore},
		UsedBytes: value(uint64(max(bytes, 0))), InodesUsed: value(uint64(max(inodes, 0))),
	}
	r.layers.mu.Lock()
	defer r.layers.mu.Unlock()
	if _, err := r.store.container(c.ID); err == nil {
		r.layers.last[c.ID] = u
	}
	return u
}
