package worker

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// event tells an event of the worker's Pod, or of a container of it.
func (w *worker) event(c *v1.Container, eventType, reason, message string) {
	w.eventOf(w.pod, c, eventType, reason, message)
}

// eventOf is event for goroutines other than the worker's, which have the Pod at hand.
func (w *worker) eventOf(p *v1.Pod, c *v1.Container, eventType, reason, message string) {
	// What fails as the daemon ends is no fault of the Pod.
	if w.m.cfg.Recorder == nil || w.source == orphan || w.ctx.Err() != nil {
		return
	}
	w.m.cfg.Recorder.Event(reference(p, c), eventType, reason, message)
}

// reference names the Pod, or a container in it, as events do. It is what events of the same object are told
// apart and counted by.
func reference(p *v1.Pod, c *v1.Container) *v1.ObjectReference {
	ref := &v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
	if c != nil {
		ref.FieldPath = fieldPath(p, c.Name)
	}
	return ref
}

// fieldPath is where in the Pod the container is.
func fieldPath(p *v1.Pod, name string) string {
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return fmt.Sprintf("spec.containers{%s}", name)
		}
	}
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return fmt.Sprintf("spec.initContainers{%s}", name)
		}
	}
	if pod.Spec(p, name) != nil {
		return fmt.Sprintf("spec.ephemeralContainers{%s}", name)
	}
	return ""
}

// stepError is a reason as an error, for the trace.
type stepError string

func (e stepError) Error() string { return string(e) }
