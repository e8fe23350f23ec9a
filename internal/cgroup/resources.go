package cgroup

import (
	"maps"

	"github.com/opencontainers/cgroups"
)

// Resources are the limits of a cgroup, in the kernel's v1 terms whatever the machine has. What is nil or empty is
// left as it is.
type Resources struct {
	// CPUShares is the relative weight, 2…262144; on v2 it becomes a weight of 1…10000: Weight's, or CPUWeight when that
	// is set.
	CPUShares, CPUWeight *uint64
	// CPUQuota and CPUPeriod are in microseconds; a quota of -1 is no limit.
	CPUQuota  *int64
	CPUPeriod *uint64
	// CPUSet and MemSet are lists as "0-3,8".
	CPUSet, MemSet string
	// Memory is in bytes; -1 is no limit. MemorySwap is of memory and swap together.
	Memory, MemorySwap *int64
	// PidsLimit is how many tasks there may be; -1 is no limit.
	PidsLimit *int64
	// HugePages are bytes by page size ("2MB").
	HugePages map[string]uint64
	// Unified are cgroup v2 files with their values; they are passed over on v1.
	Unified map[string]string
}

func (r Resources) empty() bool {
	return r.CPUShares == nil && r.CPUQuota == nil && r.CPUPeriod == nil && r.CPUSet == "" && r.MemSet == "" &&
		r.Memory == nil && r.MemorySwap == nil && r.PidsLimit == nil && len(r.HugePages) == 0 && len(r.Unified) == 0
}

// translate gives the library's form. The library may write into what it gets, so each call makes it again.
func (m *Manager) translate(r Resources) *cgroups.Resources {
	out := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true, CpusetCpus: r.CPUSet, CpusetMems: r.MemSet}
	if r.CPUShares != nil {
		if m.mode == V2 {
			out.CpuWeight = Weight(*r.CPUShares)
			if r.CPUWeight != nil {
				out.CpuWeight = *r.CPUWeight
			}
		} else {
			out.CpuShares = *r.CPUShares
		}
	}
	if r.CPUQuota != nil {
		out.CpuQuota = *r.CPUQuota
	}
	if r.CPUPeriod != nil {
		out.CpuPeriod = *r.CPUPeriod
	}
	if r.Memory != nil {
		out.Memory = *r.Memory
	}
	if r.MemorySwap != nil {
		out.MemorySwap = *r.MemorySwap
	}
	out.PidsLimit = r.PidsLimit
	for size, limit := range r.HugePages {
		if m.supportsHugePages() {
			out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: size, Limit: limit})
		}
	}
	if m.mode == V2 && len(r.Unified) > 0 {
		out.Unified = maps.Clone(r.Unified)
	}
	return out
}

func (m *Manager) supportsHugePages() bool {
	if m.mode == V2 {
		return true // the library passes the limits over where the controller is missing
	}
	_, ok := m.roots["hugetlb"]
	return ok
}

// ContainerWeight turns CPU shares (2…262144) into a v2 weight (1…10000), as OCI runtimes do for containers: 1024 shares
// become 100, which is what a cgroup has by itself.
func ContainerWeight(shares uint64) uint64 { return cgroups.ConvertCPUSharesToCgroupV2Value(shares) }

// Weight turns CPU shares (2…262144) into a v2 weight (1…10000), as the kubelet does for Pods.
func Weight(shares uint64) uint64 {
	switch {
	case shares < 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	return 1 + ((shares-2)*9999)/262142
}
