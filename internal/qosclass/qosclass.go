// Package qosclass says which quality of service a Pod has. The API server writes it into the Pod's status, and
// the node goes by it.
package qosclass

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Of answers with a Pod's class: that in its status, or that which its resources give when the status has none.
func Of(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return FromResources(pod)
}

// FromResources works the class out from the Pod's own resources where it has them, else from those of its init
// containers and containers: Guaranteed when processor and memory of each are limited to what they request,
// BestEffort when none asks for anything, Burstable otherwise.
func FromResources(pod *corev1.Pod) corev1.PodQOSClass {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return ofRequirements(pod.Spec.Resources)
	}
	var class corev1.PodQOSClass
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			class = together(class, ofRequirements(&list[i].Resources))
		}
	}
	if class == "" {
		return corev1.PodQOSBestEffort
	}
	return class
}

func ofRequirements(r *corev1.ResourceRequirements) (class corev1.PodQOSClass) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		switch {
		case !request.Equal(limit):
			return corev1.PodQOSBurstable
		case request.IsZero():
			class = together(class, corev1.PodQOSBestEffort)
		default:
			class = together(class, corev1.PodQOSGuaranteed)
		}
	}
	return class
}

// together is the class of two parts: theirs when they agree, Burstable otherwise.
func together(a, b corev1.PodQOSClass) corev1.PodQOSClass {
	if a == "" || a == b {
		return b
	}
	return corev1.PodQOSBurstable
}
