package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/node/qos"
)

// minMilliLimit is the smallest CPU limit that the kernel can hold a cgroup to; below it the spec's own value
// is what the status says.
const minMilliLimit = 10

// containerResources are what a container is held to: what the spec says, where the runtime tells nothing
// else of a running container.
func containerResources(c *v1.Container, run *Container) *v1.ResourceRequirements {
	res := c.Resources.DeepCopy()
	if run.State != Running {
		return res
	}
	got := run.said()
	if res.Limits != nil {
		if q := got.CPULimit; q != nil && (q.MilliValue() > minMilliLimit || res.Limits.Cpu().MilliValue() > minMilliLimit) {
			res.Limits[v1.ResourceCPU] = q.DeepCopy()
		}
		if q := got.MemoryLimit; q != nil {
			res.Limits[v1.ResourceMemory] = q.DeepCopy()
		}
	}
	if res.Requests == nil {
		return res
	}
	if q := got.CPURequest; q != nil && (q.MilliValue() > qos.MinShares || res.Requests.Cpu().MilliValue() > qos.MinShares) {
		res.Requests[v1.ResourceCPU] = q.DeepCopy()
	}
	// The kernel is told nothing of memory requests, so what was granted is what counts.
	if q, ok := granted(run, c.Name).Requests[v1.ResourceMemory]; ok {
		res.Requests[v1.ResourceMemory] = q.DeepCopy()
	}
	return res
}

// granted is what the attempt was made with, or last resized to; nothing when nobody knows.
func granted(run *Container, name string) v1.ResourceRequirements {
	if run.Granted == nil {
		return v1.ResourceRequirements{}
	}
	return run.Granted.Containers[name]
}

// said is what the runtime says that it holds the container to, or, of a runtime that says nothing at all,
// what it was told to.
func (c *Container) said() Resources {
	said := c.Resources
	if said != (Resources{}) {
		return said
	}
	given := granted(c, c.Name)
	pick := func(list v1.ResourceList, name v1.ResourceName) *resource.Quantity {
		if q, ok := list[name]; ok {
			return &q
		}
		return nil
	}
	return Resources{
		CPURequest: pick(given.Requests, v1.ResourceCPU), CPULimit: pick(given.Limits, v1.ResourceCPU),
		MemoryLimit: pick(given.Limits, v1.ResourceMemory),
	}
}

// podResources sets what the Pod as a whole requests and is held to.
func (r *reporter) podResources(st *v1.PodStatus) {
	p := r.pod
	requests := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	st.AllocatedResources = requests
	res := p.Spec.Resources.DeepCopy()
	if res == nil {
		res = &v1.ResourceRequirements{}
	}
	st.Resources = res
	if p.Status.Phase != v1.PodRunning {
		res.Requests = requests.DeepCopy()
		res.Limits = resourcehelper.PodLimits(p, resourcehelper.PodResourcesOptions{})
		return
	}
	// Of a running Pod it is what its cgroup holds.
	held := p
	if r.o.Cgroup != nil {
		held = r.o.Cgroup.Apply(p)
	}
	cgroup := qos.ForPod(held, qos.Settings{EnforceCPU: true, Period: qos.DefaultPeriod})
	if res.Requests == nil {
		res.Requests = v1.ResourceList{}
	}
	if res.Limits == nil {
		res.Limits = v1.ResourceList{}
	}
	if milli := milliCPU(*cgroup.Shares); milli > qos.MinShares || res.Requests.Cpu().MilliValue() > qos.MinShares {
		res.Requests[v1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
	}
	if _, ok := res.Requests[v1.ResourceMemory]; !ok {
		if q, ok := requests[v1.ResourceMemory]; ok {
			res.Requests[v1.ResourceMemory] = q
		}
	}
	if cgroup.Quota != nil && *cgroup.Quota > 0 {
		milli := *cgroup.Quota * 1000 / *cgroup.Period
		if milli > minMilliLimit || res.Limits.Cpu().MilliValue() > minMilliLimit {
			res.Limits[v1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
	}
	if cgroup.Memory != nil && *cgroup.Memory > 0 {
		res.Limits[v1.ResourceMemory] = *resource.NewQuantity(*cgroup.Memory, resource.BinarySI)
	}
}

// milliCPU turns cpu.shares back into thousandths of a CPU, rounded up.
func milliCPU(shares int64) int64 { return (shares*1000 + 1023) / 1024 }
