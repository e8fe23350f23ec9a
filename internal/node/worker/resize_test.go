package worker

import (
	"errors"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// sized gives a Pod's container processor and memory, requests as limits.
func sized(cpu, memory string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
		p.Generation++
	}
}

func allocatable(cpu, memory string) func(*Config) {
	return func(c *Config) {
		node := &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory), v1.ResourcePods: resource.MustParse("10"),
		}}}
		c.Node = func() *v1.Node { return node }
	}
}

func has(st *v1.PodStatus, t v1.PodConditionType) *v1.PodCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

// resizedTo reports whether the status says that the container is held to the amounts, with no resize left.
func resizedTo(cpu, memory string, restarts int32) func(*v1.PodStatus) bool {
	return func(st *v1.PodStatus) bool {
		c := first0(st)
		return c.State.Running != nil && c.RestartCount == restarts && has(st, v1.PodResizePending) == nil && has(st, v1.PodResizeInProgress) == nil &&
			c.AllocatedResources.Cpu().String() == cpu && c.AllocatedResources.Memory().String() == memory && c.Resources != nil &&
			c.Resources.Limits.Cpu().String() == cpu && c.Resources.Limits.Memory().String() == memory && c.Resources.Requests.Memory().String() == memory
	}
}

func TestResizes(t *testing.T) {
	dir := t.TempDir()
	n := newNode(t, allocatable("2", "1Gi"), func(c *Config) { c.Allocations = dir })
	n.create(newPod(sized("200m", "100Mi")))
	n.running("web")
	n.change("web", sized("500m", "200Mi"))
	n.becomes("web", "resized", resizedTo("500m", "200Mi", 0))
	if n.runtime.count("UpdateContainerResources c") != 1 || n.runtime.count("StopContainer c 30") != 0 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	for _, head := range []string{"Normal ResizeStarted: Pod resize started: {", "Normal ResizeCompleted: Pod resize completed: {"} {
		n.eventually(func() string {
			if strings.Contains(strings.Join(n.eventList(), "\n"), head) {
				return ""
			}
			return "no event " + head + " in " + strings.Join(n.eventList(), "\n")
		})
	}

	n.restart()
	n.running("web")
	n.becomes("web", "still so", resizedTo("500m", "200Mi", 0))
	if n.runtime.count("UpdateContainerResources c") != 1 {
		t.Errorf("resized again by the next daemon: %v", n.runtime.callList())
	}
	n.change("web", sized("100m", "100Mi"))
	n.becomes("web", "shrunk", resizedTo("100m", "100Mi", 0))
}

func TestResizeThatRestarts(t *testing.T) {
	n := newNode(t)
	n.create(newPod(sized("200m", "100Mi"), func(p *v1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
	}))
	n.running("web")
	n.change("web", sized("300m", "100Mi"))
	n.becomes("web", "resized in place", func(st *v1.PodStatus) bool {
		return first0(st).RestartCount == 0 && first0(st).AllocatedResources.Cpu().String() == "300m" && has(st, v1.PodResizeInProgress) == nil
	})
	n.change("web", sized("300m", "200Mi"))
	n.becomes("web", "restarted", func(st *v1.PodStatus) bool {
		return first0(st).RestartCount == 1 && first0(st).State.Running != nil && has(st, v1.PodResizeInProgress) == nil
	})
	n.saw("Normal Killing spec.containers{c}: Container c resize requires restart")
}

func TestResizeWaitsForRoom(t *testing.T) {
	n := newNode(t, allocatable("1", "1Gi"))
	n.create(newPod(sized("400m", "100Mi")))
	other := newPod(sized("400m", "100Mi"))
	other.Name, other.UID = "other", "uid-other"
	n.create(other)
	n.running("web")
	n.running("other")
	n.change("web", sized("700m", "100Mi"))
	n.becomes("web", "deferred", func(st *v1.PodStatus) bool {
		c := has(st, v1.PodResizePending)
		return c != nil && c.Reason == v1.PodReasonDeferred && c.ObservedGeneration == 3 &&
			c.Message == "Node didn't have enough resource: cpu, requested: 700, used: 400, capacity: 1000" &&
			first0(st).AllocatedResources.Cpu().String() == "400m"
	})
	n.restart()
	n.becomes("web", "still deferred", func(st *v1.PodStatus) bool { return has(st, v1.PodResizePending) != nil })
	if n.runtime.count("UpdateContainerResources c") != 0 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	n.delete("other", 0)
	n.becomes("web", "resized", resizedTo("700m", "100Mi", 0))
}

func TestResizeFails(t *testing.T) {
	n := newNode(t)
	n.create(newPod(sized("200m", "100Mi")))
	n.running("web")
	n.change("web", sized("200m", "5Mi"))
	words := `cannot decrease memory limits: [attempting to set pod memory limit (5242880) below current usage (10485760), ` +
		`attempting to set container "c" memory limit (5242880) below current usage (10485760)]`
	n.becomes("web", "refused", func(st *v1.PodStatus) bool {
		c := has(st, v1.PodResizeInProgress)
		return c != nil && c.Reason == v1.PodReasonError && c.Message == words && c.ObservedGeneration == 3
	})
	n.runtime.script(func() { n.runtime.fail["UpdateContainerResources c"] = errors.New("broken") })
	n.change("web", sized("300m", "100Mi"))
	n.becomes("web", "failed", func(st *v1.PodStatus) bool {
		c := has(st, v1.PodResizeInProgress)
		return c != nil && c.Reason == v1.PodReasonError && c.Message == "broken" && c.ObservedGeneration == 4
	})
	n.runtime.script(func() { delete(n.runtime.fail, "UpdateContainerResources c") })
	n.advance(retryStart)
	n.becomes("web", "resized", resizedTo("300m", "100Mi", 0))
}
