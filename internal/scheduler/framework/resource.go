package framework

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// What a container without requests counts for in scores, so that such Pods are spread too. The numbers are
// those of Kubernetes (pkg/scheduler/util, DefaultMilliCPURequest and DefaultMemoryRequest).
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 * 1024 * 1024
)

// Resource is an amount of each resource: what a Pod requests, or what a node has or has given away.
type Resource struct {
	MilliCPU         int64
	Memory           int64 // bytes
	EphemeralStorage int64 // bytes
	Pods             int64
	// Scalar holds extended resources and huge pages. It is nil if there are none.
	Scalar map[corev1.ResourceName]int64
}

// NewResource reads a resource list. Names that the scheduler does not count are left out.
func NewResource(list corev1.ResourceList) Resource {
	var r Resource
	for name, q := range list {
		switch {
		case name == corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case name == corev1.ResourceMemory:
			r.Memory = q.Value()
		case name == corev1.ResourceEphemeralStorage:
			r.EphemeralStorage = q.Value()
		case name == corev1.ResourcePods:
			r.Pods = q.Value()
		case IsScalar(name):
			if r.Scalar == nil {
				r.Scalar = map[corev1.ResourceName]int64{}
			}
			r.Scalar[name] = q.Value()
		}
	}
	return r
}

// Add adds o, times sign, which is 1 or -1.
func (r *Resource) Add(o *Resource, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.EphemeralStorage += sign * o.EphemeralStorage
	if len(o.Scalar) == 0 {
		return
	}
	if r.Scalar == nil {
		r.Scalar = make(map[corev1.ResourceName]int64, len(o.Scalar))
	}
	for name, n := range o.Scalar {
		r.Scalar[name] += sign * n
	}
}

func (r *Resource) equal(o *Resource) bool {
	return r.MilliCPU == o.MilliCPU && r.Memory == o.Memory && r.EphemeralStorage == o.EphemeralStorage && maps.Equal(r.Scalar, o.Scalar)
}

// Clone returns a deep copy.
func (r *Resource) Clone() Resource {
	c := *r
	c.Scalar = maps.Clone(r.Scalar)
	return c
}

// Of returns the amount of one resource. CPU is in thousandths of a core.
func (r *Resource) Of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return r.MilliCPU
	case corev1.ResourceMemory:
		return r.Memory
	case corev1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	case corev1.ResourcePods:
		return r.Pods
	}
	return r.Scalar[name]
}

// Quantity formats an amount of a resource in Kubernetes' notation.
func Quantity(name corev1.ResourceName, n int64) string {
	switch {
	case name == corev1.ResourceCPU:
		return resource.NewMilliQuantity(n, resource.DecimalSI).String()
	case name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
		return resource.NewQuantity(n, resource.BinarySI).String()
	}
	return resource.NewQuantity(n, resource.DecimalSI).String()
}

// IsScalar reports whether the scheduler counts a resource that has no field of its own: extended resources,
// huge pages, attachable volumes and prefixed native resources.
func IsScalar(name corev1.ResourceName) bool {
	s := string(name)
	return IsExtended(name) || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(s, corev1.ResourceAttachableVolumesPrefix) || strings.Contains(s, corev1.ResourceDefaultNamespacePrefix)
}

// IsExtended reports whether the name is that of an extended resource: its domain is not one of Kubernetes, and
// it is not a quota name.
func IsExtended(name corev1.ResourceName) bool {
	s := string(name)
	return strings.Contains(s, "/") && !strings.Contains(s, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix)
}

// podRequests returns what the Pod takes from a node: the larger of what its containers take while running and
// while initializing, Pod-level requests where they are set, and the overhead.
func podRequests(pod *corev1.Pod) Resource {
	return NewResource(resourcehelper.PodRequests(pod, requestOptions(nil)))
}

// podRequestsForScore returns requests, as podRequests computed them, with a small amount in place of nothing.
func podRequestsForScore(pod *corev1.Pod, requests Resource) Resource {
	if requestsBoth(pod.Spec.Containers) && requestsBoth(pod.Spec.InitContainers) {
		return requests
	}
	return NewResource(resourcehelper.PodRequests(pod, requestOptions(inPlaceOfNothing)))
}

// requestsBoth reports whether every container requests both CPU and memory.
func requestsBoth(containers []corev1.Container) bool {
	for i := range containers {
		r := containers[i].Resources.Requests
		_, cpu := r[corev1.ResourceCPU]
		_, memory := r[corev1.ResourceMemory]
		if !cpu || !memory {
			return false
		}
	}
	return true
}

var inPlaceOfNothing = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.DecimalSI),
}

// requestOptions counts a running Pod that is being resized by the larger of what it has and what it requests.
func requestOptions(missing corev1.ResourceList) resourcehelper.PodResourcesOptions {
	return resourcehelper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
		NonMissingContainerRequests:                    missing,
	}
}
