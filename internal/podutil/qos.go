package podutil

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// QOSClass returns the class in the Pod's status, or the class of its resources if the status has none.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return QOSClassFromResources(pod)
}

// QOSClassFromResources computes the class from the Pod-level resources if there are any, otherwise from the init
// containers and containers. The class is Guaranteed if the CPU and memory limits of each equal its requests,
// BestEffort if none requests or limits anything, and Burstable otherwise.
func QOSClassFromResources(pod *corev1.Pod) corev1.PodQOSClass {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return ofRequirements(pod.Spec.Resources)
	}
	var class corev1.PodQOSClass
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			class = mergeQOS(class, ofRequirements(&list[i].Resources))
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
			class = mergeQOS(class, corev1.PodQOSBestEffort)
		default:
			class = mergeQOS(class, corev1.PodQOSGuaranteed)
		}
	}
	return class
}

// mergeQOS returns the class of two parts: their class if they agree, Burstable otherwise.
func mergeQOS(a, b corev1.PodQOSClass) corev1.PodQOSClass {
	if a == "" || a == b {
		return b
	}
	return corev1.PodQOSBurstable
}
