package container

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Labels and annotations of sandboxes and containers: what is known of a Pod from the runtime alone. The
// names are the kubelet's, for crictl and log shippers read them.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"

	annotationDeletionGrace    = "io.kubernetes.pod.deletionGracePeriod"
	annotationTerminationGrace = "io.kubernetes.pod.terminationGracePeriod"
	annotationHash             = "io.kubernetes.container.hash"
	annotationRestartCount     = "io.kubernetes.container.restartCount"
	annotationMessagePath      = "io.kubernetes.container.terminationMessagePath"
	annotationMessagePolicy    = "io.kubernetes.container.terminationMessagePolicy"
	annotationPreStop          = "io.kubernetes.container.preStopHandler"
	annotationPorts            = "io.kubernetes.container.ports"
)

// PodLabels are the labels of a Pod's sandbox: its own and those that name it.
func PodLabels(pod *v1.Pod) map[string]string {
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelPodName] = pod.Name
	labels[LabelPodNamespace] = pod.Namespace
	labels[LabelPodUID] = string(pod.UID)
	return labels
}

// ContainerLabels are the labels of a container.
func ContainerLabels(pod *v1.Pod, container string) map[string]string {
	return map[string]string{
		LabelPodName: pod.Name, LabelPodNamespace: pod.Namespace, LabelPodUID: string(pod.UID), LabelContainerName: container,
	}
}

// ContainerAnnotations are the annotations of a container: what is needed to end it well, and to tell how it
// ended, when its Pod's spec is gone.
func ContainerAnnotations(pod *v1.Pod, c *v1.Container, attempt uint32) map[string]string {
	annotations := map[string]string{
		annotationHash:          strconv.FormatUint(Hash(c), 16),
		annotationRestartCount:  strconv.FormatUint(uint64(attempt), 10),
		annotationMessagePath:   c.TerminationMessagePath,
		annotationMessagePolicy: string(c.TerminationMessagePolicy),
	}
	setInt(annotations, annotationDeletionGrace, pod.DeletionGracePeriodSeconds)
	setInt(annotations, annotationTerminationGrace, pod.Spec.TerminationGracePeriodSeconds)
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		setJSON(annotations, annotationPreStop, c.Lifecycle.PreStop)
	}
	if len(c.Ports) > 0 {
		setJSON(annotations, annotationPorts, c.Ports)
	}
	return annotations
}

func setInt(m map[string]string, key string, value *int64) {
	if value != nil {
		m[key] = strconv.FormatInt(*value, 10)
	}
}

// setJSON leaves out what does not marshal, which API types always do.
func setJSON(m map[string]string, key string, value any) {
	if raw, err := json.Marshal(value); err == nil {
		m[key] = string(raw)
	}
}

// Hash reports whether a running container is still the one that the spec describes: it covers the fields that
// a running Pod's container may have changed in a way that needs a new one, its name and image.
func Hash(c *v1.Container) uint64 {
	h := fnv.New32a()
	raw, _ := json.Marshal(map[string]string{"image": c.Image, "name": c.Name})
	h.Write(raw)
	return uint64(h.Sum32())
}

// PodRef is the Pod that a sandbox's or container's labels name.
type PodRef struct {
	Name, Namespace string
	UID             types.UID
}

// PodOf reads the Pod from the labels of a sandbox or a container.
func PodOf(labels map[string]string) PodRef {
	return PodRef{Name: labels[LabelPodName], Namespace: labels[LabelPodNamespace], UID: types.UID(labels[LabelPodUID])}
}

// Notes are what the labels and annotations of a container say. What is absent or malformed is zero.
type Notes struct {
	Pod       PodRef
	Container string

	Hash                     uint64
	RestartCount             uint32
	DeletionGracePeriod      *int64
	TerminationGracePeriod   *int64
	TerminationMessagePath   string
	TerminationMessagePolicy v1.TerminationMessagePolicy
	PreStop                  *v1.LifecycleHandler
	Ports                    []v1.ContainerPort
}

// NotesOf reads a container's labels and annotations.
func NotesOf(labels, annotations map[string]string) Notes {
	n := Notes{
		Pod:                      PodOf(labels),
		Container:                labels[LabelContainerName],
		DeletionGracePeriod:      getInt(annotations, annotationDeletionGrace),
		TerminationGracePeriod:   getInt(annotations, annotationTerminationGrace),
		TerminationMessagePath:   annotations[annotationMessagePath],
		TerminationMessagePolicy: v1.TerminationMessagePolicy(annotations[annotationMessagePolicy]),
	}
	n.Hash, _ = strconv.ParseUint(annotations[annotationHash], 16, 64)
	if count := getInt(annotations, annotationRestartCount); count != nil {
		n.RestartCount = uint32(*count)
	}
	var preStop v1.LifecycleHandler
	if raw, ok := annotations[annotationPreStop]; ok && json.Unmarshal([]byte(raw), &preStop) == nil {
		n.PreStop = &preStop
	}
	if raw, ok := annotations[annotationPorts]; ok && json.Unmarshal([]byte(raw), &n.Ports) != nil {
		n.Ports = nil
	}
	return n
}

func getInt(m map[string]string, key string) *int64 {
	value, err := strconv.ParseInt(m[key], 10, 64)
	if err != nil {
		return nil
	}
	return &value
}
