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
	got := run.Resources
	if res.Limits != nil {
		if q := got.CPULimit; q != nil && (q.MilliValue() > minMilliLimit || res.Limits.Cpu().MilliValue() > minMilliLimit) {
			res.Limits[v1.ResourceCPU] = q.DeepCopy()
		}
		if q := got.MemoryLimit; q != nil {
			res.Limits[v1.ResourceMemory] = q.DeepCopy()
		}
	}
	if q := got.CPURequest; q != nil && res.Requests != nil &&
		(q.MilliValue() > qos.MinShares || res.Requests.Cpu().MilliValue() > qos.MinShares) {
		res.Requests[v1.ResourceCPU] = q.DeepCopy()
	}
	return res
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
	cgroup := qos.ForPod(p, qos.Settings{EnforceCPU: true, Period: qos.DefaultPeriod})
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
