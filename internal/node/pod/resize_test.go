package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestResizeRestartsAsItsPolicySays(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceRequirements {
		return v1.ResourceRequirements{Limits: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory),
		}}
	}
	memory := []v1.ContainerResizePolicy{
		{ResourceName: v1.ResourceCPU, RestartPolicy: v1.NotRequired}, {ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer},
	}
	was := Allocation{Containers: map[string]v1.ResourceRequirements{"c": list("1", "1Gi")}}
	for name, tc := range map[string]struct {
		to       v1.ResourceRequirements
		policy   []v1.ContainerResizePolicy
		state    State
		unknown  bool
		resizing bool
		restarts bool
	}{
		"nothing new":               {to: list("1000m", "1024Mi"), policy: memory, state: Running},
		"no policy":                 {to: list("2", "2Gi"), state: Running, resizing: true},
		"of another resource":       {to: list("2", "1Gi"), policy: memory, state: Running, resizing: true},
		"of the resource":           {to: list("1", "2Gi"), policy: memory, state: Running, resizing: true, restarts: true},
		"not running":               {to: list("1", "2Gi"), policy: memory, state: Exited},
		"made nobody knows of what": {to: list("1", "2Gi"), policy: memory, state: Running, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := simple(func(p *v1.Pod) {
				p.Spec.Containers[0].Resources, p.Spec.Containers[0].ResizePolicy = tc.to, tc.policy
			})
			run := Container{Name: "c", State: tc.state, Granted: &was}
			if tc.unknown {
				run.Granted = nil
			}
			if got := resizeRestarts(p, &p.Spec.Containers[0], &run); got != tc.restarts {
				t.Errorf("restarts: %v", got)
			}
			if got := Resizing(p, &Observed{Containers: []Container{run}}); got != tc.resizing {
				t.Errorf("resizing: %v", got)
			}
		})
	}
}

func TestAllocationIsAppliedToACopy(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}
	})
	a := AllocationOf(p)
	if !a.Holds(p) || a.Apply(p) != p {
		t.Error("what is asked for is not what is allocated")
	}
	a.Containers["c"] = v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}
	got := a.Apply(p)
	if got == p || got.Spec.Containers[0].Resources.Requests.Cpu().Value() != 1 || p.Spec.Containers[0].Resources.Requests.Cpu().Value() != 2 {
		t.Errorf("applied: %v", got.Spec.Containers[0].Resources)
	}
	text, err := FormatAllocation(a)
	if back := ParseAllocation(text); err != nil || back == nil || !back.Holds(got) {
		t.Errorf("%v; read back: %+v", err, back)
	}
	if ParseAllocation("") != nil || ParseAllocation("{") != nil {
		t.Error("read what is not there")
	}
}

// A resize that restarts a container is in progress until the successor runs: no status says that it is over and still
// shows the old container.
func TestResizeThatRestartsIsInProgressTillTheEnd(t *testing.T) {
	list := func(memory string) v1.ResourceRequirements {
		return v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse(memory)}}
	}
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = list("2Gi")
		p.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
	})
	was, is := Allocation{Containers: map[string]v1.ResourceRequirements{"c": list("1Gi")}}, AllocationOf(p)
	old, ended, next := running("c"), exited("c", 143), running("c")
	old.Granted, ended.Granted, next.Granted = &was, &was, &is
	old.ID, ended.ID, next.ID, next.Attempt = "c-a", "c-a", "c-b", 1
	made := next
	made.State = Created
	st := v1.PodStatus{}
	for i, step := range []struct {
		runs []Container
		over bool
	}{{[]Container{old}, false}, {[]Container{ended}, false}, {[]Container{made, ended}, false}, {[]Container{next, ended}, true}} {
		o := seen(step.runs...)
		o.Work.Kills["c-a"] = &Kill{Restart: true, Again: true}
		st = Status(p, &st, o)
		if over := condition(st.Conditions, v1.PodResizeInProgress) == nil; over != step.over {
			t.Errorf("step %d: the resize is said to be over: %v", i, over)
		}
		if restarted := st.ContainerStatuses[0].RestartCount == 1; restarted != step.over {
			t.Errorf("step %d: the container is said to be restarted: %v", i, restarted)
		}
	}
}

// While a container is being ended for a resize its cgroup may be there still: the Pod's own is left alone till it is gone.
func TestResizeWaitsForTheContainerItEnds(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
	})
	more := Allocation{Containers: map[string]v1.ResourceRequirements{"c": {Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}}}}
	o := seen(exited("c", 143))
	o.Cgroup = &more
	o.Work.Pulls["c"] = &Pull{Step: Step{Done: true}, Image: "img"}
	kill := &Kill{Restart: true, Again: true, Stop: Step{Busy: true}}
	o.Work.Kills["c-a"] = kill
	st := Status(p, &v1.PodStatus{}, o)
	if plan := Plan(p, &st, o); len(plan) > 0 {
		t.Errorf("while it is being ended: %#v", plan)
	}
	kill.Stop = Step{Done: true}
	plan := Plan(p, &st, o)
	if len(plan) != 1 {
		t.Fatalf("then: %#v", plan)
	}
	if _, ok := plan[0].(ResizePod); !ok {
		t.Errorf("then: %#v", plan[0])
	}
}
