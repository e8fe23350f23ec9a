package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Resized is a container whose limits change while it runs.
type Resized struct {
	Container *v1.Container
	ID        string
	From, To  Size
}

// ResizePod asks for the Pod's cgroup and the containers that run to be held to what is allocated by now. The
// worker grows the Pod first and shrinks it last, so that at no time a container has more than its Pod.
type ResizePod struct {
	// From is what the Pod's cgroup was last held to.
	From Allocation
	// Containers are those to change, the ones that give memory back first.
	Containers []Resized
}

func (ResizePod) action() {}

// KillResize is that a container must start again to get what was allocated.
const KillResize KillReason = "Resize"

// resized answers what a running container was given and is to get, and whether these differ. A container of
// which it is not known what it was given is left alone.
func resized(p *v1.Pod, c *v1.Container, run *Container) (from, to Size, differ bool) {
	if run.State != Running || run.Granted == nil {
		return from, to, false
	}
	from, to = run.Granted.size(c.Name), AllocationFor(p, c).size(c.Name)
	return from, to, from != to
}

// resizeRestarts reports whether a running container must start again to get what was allocated, as its policy
// for the resource says.
func resizeRestarts(p *v1.Pod, c *v1.Container, run *Container) bool {
	from, to, differ := resized(p, c, run)
	if !differ {
		return false
	}
	cpu := from.CPURequest != to.CPURequest || from.CPULimit != to.CPULimit
	memory := from.MemoryRequest != to.MemoryRequest || from.MemoryLimit != to.MemoryLimit
	return slices.ContainsFunc(c.ResizePolicy, func(policy v1.ContainerResizePolicy) bool {
		return policy.RestartPolicy == v1.RestartContainer &&
			(cpu && policy.ResourceName == v1.ResourceCPU || memory && policy.ResourceName == v1.ResourceMemory)
	})
}

// Resizing reports whether any running container, or the Pod as a whole, is not yet held to what is allocated.
func Resizing(p *v1.Pod, o *Observed) bool {
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if run := o.newest(list[i].Name); run != nil {
				if _, _, differ := resized(p, &list[i], run); differ {
					return true
				}
			}
		}
	}
	return o.Cgroup != nil && p.Spec.Resources != nil && o.active() != nil &&
		o.Cgroup.podSize() != AllocationOf(p).podSize()
}

// podSize is what the Pod's own resources come to.
func (a Allocation) podSize() Size {
	r := a.Pod
	if r == nil {
		r = &v1.ResourceRequirements{}
	}
	return Size{
		CPURequest: r.Requests.Cpu().MilliValue(), CPULimit: r.Limits.Cpu().MilliValue(),
		MemoryRequest: r.Requests.Memory().Value(), MemoryLimit: r.Limits.Memory().Value(),
	}
}

// resize plans for the Pod and its running containers to be held to what is allocated. Containers that must
// start again for it are stopped before; until the Pod's cgroup is as allocated, none is started, unless the
// resize has failed.
func (pl *planner) resize() {
	p, o := pl.pod, pl.o
	a := ResizePod{}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := &list[i]
			run := o.newest(c.Name)
			if run == nil {
				continue
			}
			if k := o.Work.Kills[run.ID]; k != nil && k.Stop.Busy && run.State == Exited {
				// Its cgroup may be there still, and the kernel takes no Pod's that is less than it.
				pl.holds = true
				return
			}
			from, to, differ := resized(p, c, run)
			if !differ {
				continue
			}
			if resizeRestarts(p, c, run) {
				if o.Work.Starts[c.Name] == nil {
					pl.holds = true
				}
				return
			}
			a.Containers = append(a.Containers, Resized{Container: c, ID: run.ID, From: from, To: to})
		}
	}
	if o.Cgroup != nil {
		a.From = *o.Cgroup
	}
	if len(a.Containers) == 0 && (o.Cgroup == nil || o.Cgroup.Holds(p)) {
		return
	}
	slices.SortStableFunc(a.Containers, func(a, b Resized) int {
		return int(min(max(a.To.MemoryLimit-a.From.MemoryLimit-b.To.MemoryLimit+b.From.MemoryLimit, -1), 1))
	})
	pl.holds = o.Work.Resize.Reason == ""
	if pl.due(&o.Work.Resize) {
		pl.do(a)
	}
}
