package sources

import (
	batchv1 "k8s.io/api/batch/v1"
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

// kept are the annotations that a controller reads.
var kept = []string{
	corev1.PodDeletionCost,
	batchv1.JobCompletionIndexAnnotation, batchv1.JobIndexFailureCountAnnotation, batchv1.JobIndexIgnoredFailureCountAnnotation,
}

func trimAnnotations(all map[string]string) map[string]string {
	var out map[string]string
	for _, key := range kept {
		if value, ok := all[key]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// trimPod keeps of a Pod its metadata with few annotations, what says where it is and how it is reached (node,
// tolerations, host names, ports), its claims, its resources (quota counts them), and of its status the phase, the
// conditions, the addresses, and how its containers ended.
func trimPod(pod *corev1.Pod) {
	pod.Annotations = trimAnnotations(pod.Annotations)
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
		Affinity:                      trimAffinity(spec),
		Overhead:                      spec.Overhead,
		Resources:                     spec.Resources,
		Volumes:                       claimed(spec.Volumes),
		InitContainers:                trimContainers(spec.InitContainers),
		Containers:                    trimContainers(spec.Containers),
	}
	status := &pod.Status
	pod.Status = corev1.PodStatus{
		Phase:                 status.Phase,
		Reason:                status.Reason,
		Conditions:            status.Conditions,
		PodIP:                 status.PodIP,
		PodIPs:                status.PodIPs,
		StartTime:             status.StartTime,
		Resize:                status.Resize,
		InitContainerStatuses: trimStatuses(status.InitContainerStatuses),
		ContainerStatuses:     trimStatuses(status.ContainerStatuses),
	}
}

func trimStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, c := range all {
		kept := corev1.ContainerStatus{Name: c.Name, Ready: c.Ready, RestartCount: c.RestartCount, Resources: c.Resources}
		if t := c.State.Terminated; t != nil {
			kept.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, FinishedAt: t.FinishedAt}
		}
		out = append(out, kept)
	}
	return out
}

// claimed returns the volumes that are claims: a StatefulSet's members are held against their claim templates.
func claimed(all []corev1.Volume) []corev1.Volume {
	var out []corev1.Volume
	for _, v := range all {
		if v.PersistentVolumeClaim != nil {
			out = append(out, v)
		}
	}
	return out
}

// trimAffinity keeps what the quota scope CrossNamespacePodAffinity looks at and, while a Pod has no node, the node that
// a DaemonSet made it for.
func trimAffinity(spec *corev1.PodSpec) *corev1.Affinity {
	out := crossNamespaceTerms(spec.Affinity)
	if spec.NodeName != "" || spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return out
	}
	if out == nil {
		out = &corev1.Affinity{}
	}
	out.NodeAffinity = &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
	}
	return out
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
