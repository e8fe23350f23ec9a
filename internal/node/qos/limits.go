package qos

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/podutil"
)

// Limits are what a cgroup is given. A nil member is one that is not set.
type Limits struct {
	// Shares is cpu.shares; Quota and Period are CFS microseconds, Quota -1 for none.
	Shares, Quota, Period *int64
	// Memory and Pids are most bytes and processes.
	Memory, Pids *int64
	// HugePages are most bytes by size of the page in bytes.
	HugePages map[int64]int64
	// Unified are files of cgroup v2 to write as they are.
	Unified map[string]string
}

// Settings are the node's settings that bear on limits.
type Settings struct {
	// EnforceCPU is whether CPU limits become quotas.
	EnforceCPU bool
	// Period is the CFS period in microseconds.
	Period int64
	// PodPids is the most processes of a Pod; 0 or less for no limit.
	PodPids int64
	// Unified is whether the machine has cgroup v2 only.
	Unified bool
	// ReserveMemory is whether requests become memory.min and memory.low on cgroup v2.
	ReserveMemory bool
	// Throttle is the factor of memory.high between request and limit; nil for none.
	Throttle *float64
}

// ForPod works out the limits of a Pod's cgroup: shares of the sum of its requests, and a quota and a memory
// limit only when every container has one, for a container without one may use the whole machine.
func ForPod(pod *v1.Pod, s Settings) Limits {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	shares := Shares(requests.Cpu().MilliValue())
	quota := Quota(limits.Cpu().MilliValue(), s.Period)
	if !s.EnforceCPU {
		quota = -1
	}
	memory := limits.Memory().Value()

	l := Limits{HugePages: hugePages(requests), Unified: map[string]string{}}
	switch class := podutil.QOSClass(pod); {
	case class == v1.PodQOSGuaranteed:
		l.Shares, l.Quota, l.Period, l.Memory = &shares, &quota, &s.Period, &memory
	case class == v1.PodQOSBurstable:
		l.Shares = &shares
		if limited(pod, v1.ResourceCPU) {
			l.Quota, l.Period = &quota, &s.Period
		}
		if limited(pod, v1.ResourceMemory) {
			l.Memory = &memory
		}
	default:
		least := int64(MinShares)
		l.Shares = &least
	}
	if s.PodPids > 0 {
		l.Pids = &s.PodPids
	}
	if s.Unified {
		protectPod(&l, pod, requests.Memory().Value(), memory, s)
	}
	return l
}

// protectPod adds the memory protections of cgroup v2 that the node's settings ask for.
func protectPod(l *Limits, pod *v1.Pod, request, limit int64, s Settings) {
	if s.ReserveMemory && request > 0 {
		l.Unified[protection(pod)] = strconv.FormatInt(request, 10)
	}
	if s.Throttle == nil || !resourcehelper.IsPodLevelResourcesSet(pod) || !limited(pod, v1.ResourceMemory) || request == limit {
		return
	}
	if high := MemoryHigh(request, limit, *s.Throttle); high > request {
		l.Unified["memory.high"] = strconv.FormatInt(high, 10)
	}
}

// protection is the file that keeps memory for a Pod: hard for a Guaranteed one, soft for others.
func protection(pod *v1.Pod) string {
	if podutil.QOSClass(pod) == v1.PodQOSGuaranteed {
		return "memory.min"
	}
	return "memory.low"
}

// MemoryHigh is where throttling begins: the request and, of what lies between it and the limit, the share
// that factor says, down to a whole page.
func MemoryHigh(request, limit int64, factor float64) int64 {
	const page = 4096
	return int64(math.Floor((float64(request)+float64(limit-request)*factor)/page)) * page
}

// ForContainer works out the memory protections of a container on cgroup v2; allocatable is the node's
// memory, which bounds a container without a limit.
func ForContainer(pod *v1.Pod, c *v1.Container, allocatable int64, s Settings) map[string]string {
	if !s.Unified {
		return nil
	}
	files := map[string]string{}
	request, limit := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
	if request != 0 && s.ReserveMemory {
		files[protection(pod)] = strconv.FormatInt(request, 10)
	} else {
		files["memory.min"], files["memory.low"] = "0", "0"
	}
	podThrottles := limit == 0 && resourcehelper.IsPodLevelResourcesSet(pod) && !pod.Spec.Resources.Limits.Memory().IsZero()
	if s.Throttle == nil || podThrottles || (request == limit && request != 0) {
		return files
	}
	if limit == 0 {
		limit = allocatable
	}
	if high := MemoryHigh(request, limit, *s.Throttle); limit > 0 && high > request {
		files["memory.high"] = strconv.FormatInt(high, 10)
	}
	return files
}

// limited reports whether the Pod as a whole, or else every container of it, has a limit of the resource.
func limited(pod *v1.Pod, name v1.ResourceName) bool {
	if resourcehelper.IsPodLevelResourcesSet(pod) && nonZero(pod.Spec.Resources.Limits, name) {
		return true
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !nonZero(list[i].Resources.Limits, name) {
				return false
			}
		}
	}
	return true
}

func nonZero(list v1.ResourceList, name v1.ResourceName) bool {
	q, ok := list[name]
	return ok && !q.IsZero()
}

// Limit is the limit that holds for a container: its own, or the Pod's where it has none.
func Limit(pod *v1.Pod, c *v1.Container, name v1.ResourceName) resource.Quantity {
	if q, ok := c.Resources.Limits[name]; ok && !q.IsZero() {
		return q
	}
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return pod.Spec.Resources.Limits[name]
	}
	return resource.Quantity{}
}

// hugePages sums the huge pages of a list by the size of the page in bytes.
func hugePages(list v1.ResourceList) map[int64]int64 {
	pages := map[int64]int64{}
	for name, amount := range list {
		if size, ok := PageSize(name); ok {
			pages[size] += amount.Value()
		}
	}
	return pages
}

// PageSize returns the bytes of a page that a resource named hugepages-SIZE counts.
func PageSize(name v1.ResourceName) (int64, bool) {
	text, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
	if !ok {
		return 0, false
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Value() <= 0 {
		return 0, false
	}
	return q.Value(), true
}

// PageSizeName writes the bytes of a page as the kernel's hugetlb files do: 64KB, 2MB, 1GB.
func PageSizeName(size int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	i := 0
	for size >= 1024 && i < len(units)-1 {
		size /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", size, units[i])
}

// ContainerHugePages are the limits of huge pages of a container by the name of the page's size: its own
// before the Pod's.
func ContainerHugePages(pod *v1.Pod, c *v1.Container) map[string]uint64 {
	pages := map[string]uint64{}
	lists := []v1.ResourceList{c.Resources.Limits}
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		lists = []v1.ResourceList{pod.Spec.Resources.Limits, c.Resources.Limits}
	}
	for _, list := range lists {
		for size, amount := range hugePages(list) {
			pages[PageSizeName(size)] = uint64(amount)
		}
	}
	return pages
}
