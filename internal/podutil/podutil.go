// Package podutil reads the facts from a Pod that several parts of the system need. It imports no other package of
// the module.
package podutil

import (
	corev1 "k8s.io/api/core/v1"
)

// SourceAnnotation is where the node notes the source of a Pod: SourceAPI, or the file or URL of a static Pod.
const (
	SourceAnnotation = "kubernetes.io/config.source"
	SourceAPI        = "api"
)

// Ended reports whether the Pod is in a terminal phase: no container of it runs again.
func Ended(pod *corev1.Pod) bool { return Terminal(pod.Status.Phase) }

// Terminal reports whether a Pod keeps the phase for good.
func Terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// Condition returns the Pod's condition of that type, or nil.
func Condition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// IsReady reports whether the Pod's Ready condition is true.
func IsReady(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// IsSidecar reports whether an init container is a sidecar (KEP-753): it keeps running while the containers do.
func IsSidecar(c *corev1.Container) bool {
	return c != nil && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// IsStatic reports whether the Pod comes from a file or URL of its node and not from the API.
func IsStatic(pod *corev1.Pod) bool {
	source, ok := pod.Annotations[SourceAnnotation]
	return ok && source != SourceAPI
}

// IsMirror reports whether the Pod represents a static Pod in the API.
func IsMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}
