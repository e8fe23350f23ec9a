package downward

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Resource returns the value that a resourceFieldRef names, in units of its divisor and rounded up. The
// container is the one that ref names, or own where it names none. A limit that is not set is the Pod's, or
// else what the node has for Pods.
func Resource(ref *v1.ResourceFieldSelector, pod *v1.Pod, own *v1.Container, allocatable v1.ResourceList) (string, error) {
	container := own
	if ref.ContainerName != "" {
		container = find(pod, ref.ContainerName)
	}
	if container == nil {
		return "", fmt.Errorf("container %s not found", ref.ContainerName)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	amount, err := amount(kind, v1.ResourceName(name), pod, container, allocatable)
	if err != nil {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	count, unit := float64(amount.Value()), float64(divisor.Value())
	if name == string(v1.ResourceCPU) {
		count, unit = float64(amount.MilliValue()), float64(divisor.MilliValue())
	}
	return strconv.FormatInt(int64(math.Ceil(count/unit)), 10), nil
}

func amount(kind string, name v1.ResourceName, pod *v1.Pod, c *v1.Container, allocatable v1.ResourceList) (resource.Quantity, error) {
	huge := strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix)
	switch {
	case name != v1.ResourceCPU && name != v1.ResourceMemory && name != v1.ResourceEphemeralStorage && !huge:
		return resource.Quantity{}, fmt.Errorf("no resource %s", name)
	case kind == "requests":
		return c.Resources.Requests[name], nil
	case kind == "limits" && huge:
		// Huge pages are never overcommitted: a container without a limit has none of them.
		return c.Resources.Limits[name], nil
	case kind == "limits":
		return limit(name, pod, c, allocatable), nil
	}
	return resource.Quantity{}, fmt.Errorf("no kind %s", kind)
}

func limit(name v1.ResourceName, pod *v1.Pod, c *v1.Container, allocatable v1.ResourceList) resource.Quantity {
	if q, ok := c.Resources.Limits[name]; ok && !q.IsZero() {
		return q
	}
	if resourcehelper.IsPodLevelLimitsSet(pod) && resourcehelper.IsSupportedPodLevelResource(name) {
		if q, ok := pod.Spec.Resources.Limits[name]; ok && !q.IsZero() {
			return q
		}
	}
	return allocatable[name]
}

func find(pod *v1.Pod, name string) *v1.Container {
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
