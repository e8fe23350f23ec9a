package container

import (
	"fmt"
	"maps"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/qos"
	"podium.dev/podium/internal/podutil"
)

// Resources are the limits of a container, as it is made and as a resize changes it.
func (b *Builder) Resources(pod *v1.Pod, c *v1.Container) *runtimeapi.LinuxContainerResources {
	cpu, memory := qos.Limit(pod, c, v1.ResourceCPU), qos.Limit(pod, c, v1.ResourceMemory)
	r := b.linuxResources(quantityOr(c.Resources.Requests, v1.ResourceCPU, cpu), cpu, memory)
	m := b.cfg.Machine
	r.OomScoreAdj = qos.OOMScoreAdj(pod, c, m.Memory)
	pages := qos.ContainerHugePages(pod, c)
	for _, size := range m.HugePages {
		r.HugepageLimits = append(r.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: size, Limit: pages[size]})
	}
	b.swap(r, pod, c)
	if m.Unified {
		allocatable := b.allocatable()
		r.Unified = merge(r.Unified, qos.ForContainer(pod, c, allocatable.Memory().Value(), PodSettings(b.cfg.Kubelet, m.Unified)))
	}
	return r
}

// linuxResources turns quantities into what the kernel is told. A zero memory limit is none.
func (b *Builder) linuxResources(request, limit, memory resource.Quantity) *runtimeapi.LinuxContainerResources {
	r := &runtimeapi.LinuxContainerResources{CpuShares: qos.Shares(request.MilliValue()), MemoryLimitInBytes: memory.Value()}
	settings := PodSettings(b.cfg.Kubelet, b.cfg.Machine.Unified)
	if settings.EnforceCPU {
		r.CpuPeriod = settings.Period
		r.CpuQuota = qos.Quota(limit.MilliValue(), settings.Period)
	}
	if single := b.cfg.Kubelet.SingleProcessOOMKill; b.cfg.Machine.Unified && (single == nil || !*single) {
		// The whole container dies, for half of one is of no use.
		r.Unified = map[string]string{"memory.oom.group": "1"}
	}
	return r
}

// PodSettings are the node's settings in the form that qos takes.
func PodSettings(k *kubeletconfig.KubeletConfiguration, unified bool) qos.Settings {
	s := qos.Settings{
		EnforceCPU:    k.CPUCFSQuota == nil || *k.CPUCFSQuota,
		Period:        qos.DefaultPeriod,
		Unified:       unified,
		ReserveMemory: k.MemoryReservationPolicy == kubeletconfig.TieredReservationMemoryReservationPolicy,
		Throttle:      k.MemoryThrottlingFactor,
	}
	if k.CPUCFSQuotaPeriod != nil {
		s.Period = int64(k.CPUCFSQuotaPeriod.Duration / time.Microsecond)
	}
	if k.PodPidsLimit != nil {
		s.PodPids = *k.PodPidsLimit
	}
	return s
}

// swap keeps a container from swapping, or with LimitedSwap gives a Burstable one the share of the
// machine's swap that its request is of the machine's memory.
func (b *Builder) swap(r *runtimeapi.LinuxContainerResources, pod *v1.Pod, c *v1.Container) {
	m := b.cfg.Machine
	switch {
	case !m.SwapControl:
	case !m.Unified:
		r.MemorySwapLimitInBytes = r.MemoryLimitInBytes
	default:
		amount := int64(0)
		request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
		if b.cfg.Kubelet.MemorySwap.SwapBehavior == "LimitedSwap" && !qos.Critical(pod) && podutil.QOSClass(pod) == v1.PodQOSBurstable &&
			request.Cmp(*limit) != 0 && m.Memory > 0 && request.Value() <= m.Memory {
			amount = int64(float64(request.Value()) / float64(m.Memory) * float64(m.Swap))
		}
		r.Unified = merge(r.Unified, map[string]string{"memory.swap.max": fmt.Sprint(amount)})
	}
}

func merge(into, from map[string]string) map[string]string {
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, from)
	return into
}
