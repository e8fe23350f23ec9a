package container

import (
	"strconv"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/qos"
)

// translate gives limits in the tree's terms. Of huge pages those sizes that the machine has.
func (c *Cgroups) translate(l qos.Limits) cgroup.Resources {
	r := cgroup.Resources{CPUQuota: l.Quota, Memory: l.Memory, PidsLimit: l.Pids, Unified: l.Unified, HugePages: map[string]uint64{}}
	if l.Shares != nil {
		shares := uint64(*l.Shares)
		r.CPUShares = &shares
	}
	if l.Period != nil {
		period := uint64(*l.Period)
		r.CPUPeriod = &period
	}
	for _, size := range c.sizes {
		r.HugePages[size] = 0
	}
	for size, limit := range l.HugePages {
		if _, ok := r.HugePages[qos.PageSizeName(size)]; ok {
			r.HugePages[qos.PageSizeName(size)] = uint64(limit)
		}
	}
	return r
}

// protects reports whether requests of memory become protection, which the levels must have too.
func (c *Cgroups) protects() bool { return c.settings.Unified && c.settings.ReserveMemory }

// weighLocked gives the level of Burstable Pods the weight of the sum of their requests and, where requests protect memory,
// the levels what they must have for it: cgroup v2 protects a cgroup only as far as those above it are. The lock is held.
func (c *Cgroups) weighLocked() error {
	var milli, guaranteed, burstable int64
	for _, n := range c.needs {
		if n.class == v1.PodQOSBurstable {
			milli += n.milliCPU
			burstable += n.memory
		} else {
			guaranteed += n.memory
		}
	}
	shares := uint64(qos.Shares(milli))
	res := cgroup.Resources{CPUShares: &shares}
	switch {
	case c.protects():
		all := map[string]string{"memory.min": decimal(guaranteed + burstable), "memory.low": decimal(burstable)}
		if err := c.tree.Ensure(treeRoot, cgroup.Resources{Unified: all}); err != nil {
			return err
		}
		res.Unified = map[string]string{"memory.low": decimal(burstable)}
	case c.settings.Unified && !c.made: // what an earlier run with other settings has left
		if err := c.tree.Ensure(treeRoot, cgroup.Resources{Unified: map[string]string{"memory.min": "0", "memory.low": "0"}}); err != nil {
			return err
		}
		res.Unified = map[string]string{"memory.low": "0"}
	}
	return c.tree.Ensure(treeBurstable, res)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
