package spec

import (
	"maps"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// resources sets the cgroup's limits.
func (b *builder) resources() error {
	if r := b.Container.GetLinux().GetResources(); r != nil {
		SetResources(b.spec, r, b.host)
	}
	return nil
}

// SetResources puts the limits into a configuration in place of those that it has; its devices stay.
func SetResources(s *specs.Spec, r *runtimeapi.LinuxContainerResources, host Host) {
	out := s.Linux.Resources
	out.HugepageLimits, out.Unified = nil, nil
	cpu, mem := &specs.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()}, &specs.LinuxMemory{}
	out.CPU, out.Memory = cpu, mem
	if v := r.GetCpuPeriod(); v != 0 {
		cpu.Period = ptr(uint64(v))
	}
	if v := r.GetCpuQuota(); v != 0 {
		cpu.Quota = ptr(v)
	}
	if v := r.GetCpuShares(); v != 0 {
		cpu.Shares = ptr(uint64(v))
	}
	limit, swap := r.GetMemoryLimitInBytes(), r.GetMemorySwapLimitInBytes()
	if limit != 0 {
		mem.Limit = ptr(limit)
	}
	if host.Swap {
		switch {
		case swap != 0:
			mem.Swap = ptr(swap)
		case limit != 0:
			mem.Swap = ptr(limit) // memory and swap together: no swap
		}
	}
	for _, h := range r.GetHugepageLimits() {
		if host.HugePages {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.GetPageSize(), Limit: h.GetLimit()})
		}
	}
	if host.CgroupV2 && len(r.GetUnified()) > 0 {
		out.Unified = maps.Clone(r.GetUnified())
	}
}
