package sources

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

// trim drops what no controller reads. Its objects come straight from the wire, so nothing else holds them.
func trim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		trimPod(o)
	case *corev1.Node:
		o.Status.Images = nil
		o.Status.VolumesAttached, o.Status.VolumesInUse = nil, nil
	}
	return obj, nil
}

// deletionCost is the only annotation that a controller reads.
const deletionCost = "controller.kubernetes.io/pod-deletion-cost"

// trimPod keeps of a Pod: the metadata with one annotation; node, tolerations, host names and ports; the
// resources, which quotas count; and the phase, conditions and addresses in its status.
func trimPod(pod *corev1.Pod) {
	if cost, ok := pod.Annotations[deletionCost]; ok {
		pod.Annotations = map[string]string{deletionCost: cost}
	} else {
		pod.Annotations = nil
	}
	spec := &pod.Spec
	pod.Spec = corev1.PodSpec{
		NodeName:                      spec.NodeName,
		Tolerations:                   spec.Tolerations,
		Hostname:                      spec.Hostname,
		Subdomain:                     spec.Subdomain,
		HostNetwork:                   spec.HostNetwork,
		PriorityClassName:             spec.PriorityClassName,
		Priority:                      spec.Priority,
		ActiveDeadlineSeconds:         spec.ActiveDeadlineSeconds,
		TerminationGracePeriodSeconds: spec.TerminationGracePeriodSeconds,
		Affinity:                      crossNamespaceTerms(spec.Affinity),
		Overhead:                      spec.Overhead,
		Resources:                     spec.Resources,
		InitContainers:                trimContainers(spec.InitContainers),
		Containers:                    trimContainers(spec.Containers),
	}
	status := &pod.Status
	pod.Status = corev1.PodStatus{
		Phase:      status.Phase,
		Reason:     status.Reason,
		Conditions: status.Conditions,
		PodIP:      status.PodIP,
		PodIPs:     status.PodIPs,
		StartTime:  status.StartTime,
		Resize:     status.Resize,
	}
	for _, c := range status.ContainerStatuses {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Ready: c.Ready, RestartCount: c.RestartCount, Resources: c.Resources,
		})
	}
}

// crossNamespaceTerms keeps of an affinity what the quota scope CrossNamespacePodAffinity looks at.
func crossNamespaceTerms(a *corev1.Affinity) *corev1.Affinity {
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	return &corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: a.PodAntiAffinity}
}

func trimContainers(all []corev1.Container) []corev1.Container {
	if len(all) == 0 {
		return nil
	}
	out := make([]corev1.Container, len(all))
	for i, c := range all {
		out[i] = corev1.Container{Name: c.Name, Ports: c.Ports, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
	}
	return out
}
