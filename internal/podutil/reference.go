package podutil

import (
	v1 "k8s.io/api/core/v1"
)

// Reference returns the reference by which events name a Pod.
func Reference(pod *v1.Pod) *v1.ObjectReference {
	return &v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
}

// ContainerReference returns the reference by which events name a container: the Pod and the path of its field.
func ContainerReference(pod *v1.Pod, name string) *v1.ObjectReference {
	r := Reference(pod)
	r.FieldPath = fieldPath(pod, name)
	return r
}

func fieldPath(pod *v1.Pod, name string) string {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return "spec.containers{" + name + "}"
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return ""
}
