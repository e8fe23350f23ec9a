package pod

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"podium.dev/podium/internal/node/qos"
)

// AllocationAnnotation is where a container has what its Pod was allocated when it was made, so far as it
// bears on the container: a daemon that comes up again finds there what the node has granted.
const AllocationAnnotation = "podium.dev/allocation"

// Allocation are the resources that the node has granted a Pod. They are those of its spec until the spec is
// resized; then they stay what they were until the node grants the resize.
type Allocation struct {
	// Pod are the Pod's own resources, nil for none.
	Pod *v1.ResourceRequirements `json:"pod,omitempty"`
	// Containers are by name: the containers and init containers.
	Containers map[string]v1.ResourceRequirements `json:"containers,omitempty"`
}

// AllocationOf is what the Pod's spec asks for.
func AllocationOf(p *v1.Pod) Allocation {
	a := Allocation{Pod: p.Spec.Resources, Containers: map[string]v1.ResourceRequirements{}}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			a.Containers[list[i].Name] = list[i].Resources
		}
	}
	return a
}

// AllocationFor is the part of the Pod's allocation that bears on one container.
func AllocationFor(p *v1.Pod, c *v1.Container) Allocation {
	return Allocation{Pod: p.Spec.Resources, Containers: map[string]v1.ResourceRequirements{c.Name: c.Resources}}
}

// ParseAllocation reads an AllocationAnnotation; nil is that there is none that makes sense.
func ParseAllocation(text string) *Allocation {
	if text == "" {
		return nil
	}
	a := &Allocation{}
	if json.Unmarshal([]byte(text), a) != nil {
		return nil
	}
	return a
}

// FormatAllocation writes an AllocationAnnotation.
func FormatAllocation(a Allocation) (string, error) {
	text, err := json.Marshal(a)
	return string(text), err
}

// Holds reports whether the Pod's spec asks for just what is allocated.
func (a Allocation) Holds(p *v1.Pod) bool {
	if !apiequality.Semantic.DeepEqual(a.Pod, p.Spec.Resources) {
		return false
	}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if have, ok := a.Containers[list[i].Name]; ok && !apiequality.Semantic.DeepEqual(have, list[i].Resources) {
				return false
			}
		}
	}
	return true
}

// Apply is the Pod with its resources as allocated: the Pod itself when that is what it asks for, else a
// shallow copy.
func (a Allocation) Apply(p *v1.Pod) *v1.Pod {
	if a.Holds(p) {
		return p
	}
	out := *p
	out.Spec.Resources = a.Pod
	out.Spec.Containers = a.granted(p.Spec.Containers)
	out.Spec.InitContainers = a.granted(p.Spec.InitContainers)
	return &out
}

func (a Allocation) granted(list []v1.Container) []v1.Container {
	if list == nil {
		return nil
	}
	out := make([]v1.Container, len(list))
	for i := range list {
		out[i] = list[i]
		if have, ok := a.Containers[list[i].Name]; ok {
			out[i].Resources = have
		}
	}
	return out
}

// Size is what a container is held to: thousandths of CPUs and bytes, 0 for nothing.
type Size struct {
	CPURequest, CPULimit, MemoryRequest, MemoryLimit int64
}

// size is what the named container is held to with the allocation: a limit it does not have is the Pod's.
func (a Allocation) size(name string) Size {
	c := &v1.Container{Resources: a.Containers[name]}
	p := &v1.Pod{Spec: v1.PodSpec{Resources: a.Pod}}
	cpu, memory := qos.Limit(p, c, v1.ResourceCPU), qos.Limit(p, c, v1.ResourceMemory)
	return Size{
		CPURequest: c.Resources.Requests.Cpu().MilliValue(), CPULimit: cpu.MilliValue(),
		MemoryRequest: c.Resources.Requests.Memory().Value(), MemoryLimit: memory.Value(),
	}
}
