// Package qos computes what the requests and limits of a Pod mean to the kernel: its place in the cgroup tree, its shares,
// quotas and limits there, and which process the kernel kills first when memory runs out.
package qos

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/podutil"
)

const (
	guaranteedOOM = -997
	bestEffortOOM = 1000

	systemCriticalPriority = 2000000000
	nodeCriticalClass      = "system-node-critical"
)

// Critical reports whether the Pod is static, a mirror, or of a priority reserved for the system's own Pods.
func Critical(pod *v1.Pod) bool {
	if podutil.IsStatic(pod) || podutil.IsMirror(pod) {
		return true
	}
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCriticalPriority
}

// OOMScoreAdj is how far the kernel's OOM score of a container's processes is moved, from -1000 to 1000 with
// the highest dying first. A Burstable container's processes are ranked by how little of the machine's
// memory (capacity, in bytes) it requested. The rules are those of the kubelet's qos policy.
func OOMScoreAdj(pod *v1.Pod, container *v1.Container, capacity int64) int64 {
	if Critical(pod) && pod.Spec.PriorityClassName == nodeCriticalClass {
		return guaranteedOOM
	}
	switch podutil.QOSClass(pod) {
	case v1.PodQOSGuaranteed:
		return guaranteedOOM
	case v1.PodQOSBestEffort:
		return bestEffortOOM
	}
	if capacity <= 0 {
		return bestEffortOOM - 1
	}
	spare := sparePerContainer(pod)
	score := 1000 - 1000*(container.Resources.Requests.Memory().Value()+spare)/capacity
	if sidecar(pod, container) {
		// A sidecar is not to die before the containers it serves.
		score = min(score, 1000-1000*(leastRequest(pod)+spare)/capacity)
	}
	return min(max(score, 1000+guaranteedOOM), bestEffortOOM-1)
}

// sparePerContainer is each container's share of the memory that the Pod requests beyond its containers.
func sparePerContainer(pod *v1.Pod) int64 {
	if !resourcehelper.IsPodLevelRequestsSet(pod) || pod.Spec.Resources.Requests.Memory().IsZero() {
		return 0
	}
	sum := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	spare := pod.Spec.Resources.Requests.Memory().Value() - sum.Memory().Value()
	return max(spare, 0) / int64(len(pod.Spec.Containers)+len(pod.Spec.InitContainers))
}

func sidecar(pod *v1.Pod, container *v1.Container) bool {
	if !podutil.IsSidecar(container) {
		return false
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container.Name {
			return true
		}
	}
	return false
}

func leastRequest(pod *v1.Pod) int64 {
	least := int64(-1)
	for i := range pod.Spec.Containers {
		if r := pod.Spec.Containers[i].Resources.Requests.Memory().Value(); least < 0 || r < least {
			least = r
		}
	}
	return max(least, 0)
}
