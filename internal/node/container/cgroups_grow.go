package container

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/podutil"
)

// Grow gives the Pod's cgroup the larger of what it has as from and what it is to have as to, so that its
// containers can be moved from the one to the other in any order; Ensure then takes what is too much. What
// has no limit on either side keeps the limit it has.
func (c *Cgroups) Grow(from, to *v1.Pod) error {
	p := place(podutil.QOSClass(to), to.UID)
	if err := c.tree.Ensure(p, larger(c.resources(from), c.resources(to))); err != nil {
		return fmt.Errorf("failed to set cgroup config for %v : %w", p, err)
	}
	return nil
}

// larger takes of each limit the larger one.
func larger(a, b cgroup.Resources) cgroup.Resources {
	r := cgroup.Resources{
		CPUShares: atLeast(a.CPUShares, b.CPUShares),
		Memory:    atLeast(a.Memory, b.Memory),
		CPUQuota:  atLeast(a.CPUQuota, b.CPUQuota),
	}
	if r.CPUQuota != nil {
		if *a.CPUQuota < 0 || *b.CPUQuota < 0 {
			none := int64(-1)
			r.CPUQuota = &none
		}
		r.CPUPeriod = b.CPUPeriod
	}
	return r
}

// atLeast is the larger of two values, nil when either is not set.
func atLeast[T int64 | uint64](a, b *T) *T {
	if a == nil || b == nil {
		return nil
	}
	v := max(*a, *b)
	return &v
}
