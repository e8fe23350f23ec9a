// Package qos says what a Pod's requests and limits mean to the kernel: its class of service, its place in the
// cgroup tree, its shares, quotas and limits there, and which process dies first when memory runs out.
package qos

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Class answers with a Pod's class: that of its status, or the one its resources make.
func Class(pod *v1.Pod) v1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return Compute(pod)
}

// Compute works the class out from the Pod's own resources where it has them, else from those of its init
// containers and containers: Guaranteed when cpu and memory of each are limited to what they request,
// BestEffort when none asks for anything, Burstable otherwise.
func Compute(pod *v1.Pod) v1.PodQOSClass {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return requirementsClass(pod.Spec.Resources)
	}
	var class v1.PodQOSClass
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			class = merge(class, requirementsClass(&list[i].Resources))
		}
	}
	if class == "" {
		return v1.PodQOSBestEffort
	}
	return class
}

// merge is the class of two parts together: theirs when they agree, Burstable otherwise.
func merge(a, b v1.PodQOSClass) v1.PodQOSClass {
	if a == "" || a == b {
		return b
	}
	return v1.PodQOSBurstable
}

func requirementsClass(r *v1.ResourceRequirements) v1.PodQOSClass {
	var class v1.PodQOSClass
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		switch {
		case !request.Equal(limit):
			return v1.PodQOSBurstable
		case request.IsZero():
			class = merge(class, v1.PodQOSBestEffort)
		default:
			class = merge(class, v1.PodQOSGuaranteed)
		}
	}
	return class
}
