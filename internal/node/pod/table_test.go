package pod

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var t0 = time.Unix(1_700_000_000, 0)

// simple is a Pod of one container c, changed as the test wants.
func simple(change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Generation: 3},
		Spec: v1.PodSpec{
			RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](30),
			Containers: []v1.Container{{Name: "c", Image: "img"}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func policy(rp v1.RestartPolicy) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.RestartPolicy = rp }
}

// seen is a node that has the containers in a ready sandbox.
func seen(containers ...Container) *Observed {
	o := &Observed{
		Now:       t0,
		Sandboxes: []Sandbox{{ID: "s", Ready: true, HasNetwork: true, IPs: []string{"fd00::2", "10.0.0.2"}}},
		Node:      Node{HostIPs: []string{"192.0.2.1", "2001:db8::1"}, Runtime: "podium"},
	}
	o.Work = Work{
		Volumes: Step{Done: true},
		Pulls:   map[string]*Pull{}, VolumePulls: map[string]*Pull{}, Starts: map[string]*Start{}, Hooks: map[string]Hook{}, Kills: map[string]*Kill{},
		Removals: map[string]*Step{}, Sandboxes: map[string]*Step{}, Warned: map[string]bool{},
	}
	for i, c := range containers {
		c.SandboxID = "s"
		if c.ID == "" {
			c.ID = c.Name + "-" + string(rune('a'+i))
		}
		c.CreatedAt = t0.Add(-time.Minute)
		if c.State != Created {
			c.StartedAt = t0.Add(-time.Minute)
		}
		if c.State == Exited {
			c.FinishedAt = t0.Add(-time.Second)
		}
		o.Containers = append(o.Containers, c)
	}
	return o
}

func exited(name string, code int32) Container {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	return Container{Name: name, State: Exited, ExitCode: code, Reason: reason}
}

func running(name string) Container { return Container{Name: name, State: Running} }

func TestPhases(t *testing.T) {
	always := ptr.To(v1.ContainerRestartPolicyAlways)
	initial := func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{{Name: "i", Image: "img"}} }
	side := func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{{Name: "side", Image: "img", RestartPolicy: always}}
	}
	two := func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Image: "img"}) }
	tests := []struct {
		name  string
		pod   *v1.Pod
		seen  *Observed
		phase v1.PodPhase
	}{
		{"nothing made", simple(), seen(), v1.PodPending},
		{"made, not started", simple(), seen(Container{Name: "c"}), v1.PodPending},
		{"running", simple(), seen(running("c")), v1.PodRunning},
		{"one of two", simple(two), seen(running("c")), v1.PodPending},
		{"one has ended", simple(two), seen(running("c"), exited("d", 1)), v1.PodRunning},
		{"always restarts", simple(), seen(exited("c", 0)), v1.PodRunning},
		{"on failure, failed", simple(policy(v1.RestartPolicyOnFailure)), seen(exited("c", 1)), v1.PodRunning},
		{"on failure, done", simple(policy(v1.RestartPolicyOnFailure)), seen(exited("c", 0)), v1.PodSucceeded},
		{"never, done", simple(policy(v1.RestartPolicyNever)), seen(exited("c", 0)), v1.PodSucceeded},
		{"never, failed", simple(policy(v1.RestartPolicyNever)), seen(exited("c", 1)), v1.PodFailed},
		{"never, one failed", simple(policy(v1.RestartPolicyNever), two), seen(exited("c", 1), exited("d", 0)), v1.PodFailed},
		{"init runs", simple(initial), seen(running("i")), v1.PodPending},
		{"init failed, retried", simple(initial), seen(exited("i", 1)), v1.PodPending},
		{"init failed for good", simple(initial, policy(v1.RestartPolicyNever)), seen(exited("i", 1)), v1.PodFailed},
		{"init done", simple(initial), seen(exited("i", 0), running("c")), v1.PodRunning},
		{"sidecar runs", simple(side), seen(running("side")), v1.PodPending},
		{"sidecar and container run", simple(side), seen(running("side"), running("c")), v1.PodRunning},
		{"sidecar restarts", simple(side), seen(exited("side", 1), running("c")), v1.PodRunning},
		{"sidecar outlives", simple(side, policy(v1.RestartPolicyNever)), seen(running("side"), exited("c", 0)), v1.PodRunning},
		{"sidecar ended", simple(side, policy(v1.RestartPolicyNever)), seen(exited("side", 137), exited("c", 0)), v1.PodSucceeded},
		{"container-level policy", simple(policy(v1.RestartPolicyNever), func(p *v1.Pod) { p.Spec.Containers[0].RestartPolicy = always }),
			seen(exited("c", 1)), v1.PodRunning},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			st := Status(tc.pod, &v1.PodStatus{}, tc.seen)
			if st.Phase != tc.phase {
				t.Errorf("phase %s, want %s", st.Phase, tc.phase)
			}
		})
	}
}

func TestWaitingReasons(t *testing.T) {
	hash := Hash(&v1.Container{Name: "c", Image: "img"})
	failed := func(reason, message string) func(*Observed) {
		return func(o *Observed) {
			o.Work.Starts["c"] = &Start{Step: Step{Reason: reason, Message: message, Failed: t0}, Hash: hash}
		}
	}
	crashed := exited("c", 1)
	crashed.Backoff, crashed.BackoffKey = 20*time.Second, backoffKey(&v1.Container{Name: "c", Image: "img"})
	tests := []struct {
		name            string
		pod             *v1.Pod
		seen            *Observed
		change          func(*Observed)
		reason, message string
		last            int32 // exit code of lastState, -1 for none
	}{
		{"first", simple(), seen(), nil, "ContainerCreating", "", -1},
		{"behind init containers", simple(func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{{Name: "i"}} }), seen(), nil, "PodInitializing", "", -1},
		{"pull under way", simple(), seen(), func(o *Observed) {
			o.Work.Pulls["c"] = &Pull{Step: Step{Busy: true}, Image: "img", Progress: "3 of 4 layers"}
		}, "ContainerCreating", "3 of 4 layers", -1},
		{"pull failed", simple(), seen(), func(o *Observed) {
			o.Work.Pulls["c"] = &Pull{Step: Step{Reason: "ErrImagePull", Message: "no"}, Image: "img"}
		}, "ErrImagePull", "no", -1},
		{"pull of an older name failed", simple(), seen(), func(o *Observed) {
			o.Work.Pulls["c"] = &Pull{Step: Step{Reason: "ErrImagePull", Message: "no"}, Image: "old"}
		}, "ContainerCreating", "", -1},
		{"pull of a volume failed", simple(func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "files"}}}}
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}), seen(), func(o *Observed) {
			o.Work.Pulls["c"] = &Pull{Step: Step{Reason: "ErrImagePull", Message: "no"}, Image: "img"}
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Reason: "ErrImageNeverPull", Message: "never"}, Image: "files"}
		}, "ErrImageNeverPull", "never", -1},
		{"pull of another container's volume failed", simple(func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "files"}}}}
		}), seen(), func(o *Observed) {
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Reason: "ErrImagePull", Message: "no"}, Image: "files"}
		}, "ContainerCreating", "", -1},
		{"config", simple(), seen(), failed("CreateContainerConfigError", "no map"), "CreateContainerConfigError", "no map", -1},
		{"crashed", simple(), seen(crashed), nil, "CrashLoopBackOff", "back-off 20s restarting failed container=c pod=p_ns(u)", 1},
		{"could not run again", simple(), seen(crashed), failed("RunContainerError", "exec"), "RunContainerError", "exec", 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.change != nil {
				tc.change(tc.seen)
			}
			st := Status(tc.pod, &v1.PodStatus{}, tc.seen)
			c := find(st.ContainerStatuses, "c")
			if w := c.State.Waiting; w == nil || w.Reason != tc.reason || w.Message != tc.message {
				t.Errorf("state %+v", c.State)
			}
			last := c.LastTerminationState.Terminated
			if (last == nil) != (tc.last < 0) || (last != nil && last.ExitCode != tc.last) {
				t.Errorf("last state %+v", last)
			}
		})
	}
}

func TestConditionsAndTheirTimes(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{}
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "gate"}}
	})
	scheduled := metav1.NewTime(t0.Add(-time.Hour))
	prev := v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodScheduled, Status: v1.ConditionTrue, LastTransitionTime: scheduled}}}
	o := seen(running("c"))
	st := Status(p, &prev, o)
	expect := func(c v1.PodConditionType, status v1.ConditionStatus, reason, message string, since time.Time) {
		t.Helper()
		got := condition(st.Conditions, c)
		if got == nil || got.Status != status || got.Reason != reason || got.Message != message || !got.LastTransitionTime.Time.Equal(since) {
			t.Errorf("%s: %+v", c, got)
		}
		if got != nil && got.ObservedGeneration != 3 {
			t.Errorf("%s is of generation %d", c, got.ObservedGeneration)
		}
	}
	unready := "containers with unready status: [c]"
	expect(v1.PodScheduled, v1.ConditionTrue, "", "", scheduled.Time)
	expect(v1.PodReadyToStartContainers, v1.ConditionTrue, "", "", t0)
	expect(v1.PodInitialized, v1.ConditionTrue, "", "", t0)
	expect(v1.ContainersReady, v1.ConditionFalse, "ContainersNotReady", unready, t0)
	expect(v1.PodReady, v1.ConditionFalse, "ContainersNotReady", unready, t0)

	o.Now = t0.Add(5 * time.Second)
	o.Probes = map[string]Probe{"c-a": {Ready: ptr.To(true)}}
	st = Status(p, &st, o)
	expect(v1.ContainersReady, v1.ConditionTrue, "", "", o.Now)
	expect(v1.PodReady, v1.ConditionFalse, "ReadinessGatesNotReady",
		`corresponding condition of pod readiness gate "gate" does not exist.`, t0)

	p.Status.Conditions = []v1.PodCondition{{Type: "gate", Status: v1.ConditionFalse}}
	st = Status(p, &st, o)
	expect(v1.PodReady, v1.ConditionFalse, "ReadinessGatesNotReady",
		`the status of pod readiness gate "gate" is not "True", but False`, t0)

	p.Status.Conditions[0].Status = v1.ConditionTrue
	o.Now = t0.Add(9 * time.Second)
	st = Status(p, &st, o)
	expect(v1.PodReady, v1.ConditionTrue, "", "", o.Now)
	expect(v1.ContainersReady, v1.ConditionTrue, "", "", t0.Add(5*time.Second))
	if condition(st.Conditions, "gate") == nil {
		t.Error("another's condition was lost")
	}
}

func TestInitializedSaysWhatIsMissing(t *testing.T) {
	p := simple(func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{{Name: "i"}, {Name: "j"}} })
	st := Status(p, &v1.PodStatus{}, seen(running("i")))
	got := condition(st.Conditions, v1.PodInitialized)
	if got.Status != v1.ConditionFalse || got.Reason != "ContainersNotInitialized" || got.Message != "containers with incomplete status: [i j]" {
		t.Errorf("%+v", got)
	}
	st = Status(p, &v1.PodStatus{}, seen(exited("i", 0), exited("j", 0), running("c")))
	if got := condition(st.Conditions, v1.PodInitialized); got.Status != v1.ConditionTrue {
		t.Errorf("%+v", got)
	}
	if !st.InitContainerStatuses[0].Ready {
		t.Error("an init container that is done is not ready")
	}
}

func TestEndedConditions(t *testing.T) {
	st := Status(simple(policy(v1.RestartPolicyNever)), &v1.PodStatus{}, seen(exited("c", 0)))
	for _, c := range []v1.PodConditionType{v1.PodReady, v1.ContainersReady} {
		if got := condition(st.Conditions, c); got.Status != v1.ConditionFalse || got.Reason != "PodCompleted" {
			t.Errorf("%+v", got)
		}
	}
	st = Status(simple(policy(v1.RestartPolicyNever)), &v1.PodStatus{}, seen(exited("c", 9)))
	if got := condition(st.Conditions, v1.PodReady); got.Reason != "PodFailed" {
		t.Errorf("%+v", got)
	}
}

func TestAddresses(t *testing.T) {
	st := Status(simple(), &v1.PodStatus{}, seen(running("c")))
	if st.PodIP != "10.0.0.2" || len(st.PodIPs) != 2 || st.HostIP != "192.0.2.1" || len(st.HostIPs) != 2 {
		t.Errorf("%+v %+v", st.PodIPs, st.HostIPs)
	}
	host := simple(func(p *v1.Pod) { p.Spec.HostNetwork = true })
	o := seen(running("c"))
	o.Sandboxes[0].IPs = nil
	st = Status(host, &v1.PodStatus{}, o)
	if st.PodIP != "192.0.2.1" || len(st.PodIPs) != 2 || st.PodIPs[1].IP != "2001:db8::1" {
		t.Errorf("%+v", st.PodIPs)
	}
	// A Pod that is ending keeps its address when its sandbox is gone.
	p := simple()
	st = Status(p, &v1.PodStatus{}, seen(running("c")))
	p.DeletionTimestamp = &metav1.Time{Time: t0}
	o = seen(exited("c", 0))
	o.Sandboxes[0] = Sandbox{ID: "s"}
	if st = Status(p, &st, o); st.PodIP != "10.0.0.2" {
		t.Errorf("%+v", st.PodIPs)
	}
}

// A container that the node ends only to start it again counts as running until its successor does.
func TestReplacedContainerCountsAsRunning(t *testing.T) {
	p := simple(func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = &v1.Probe{} })
	o := seen(running("c"))
	o.Probes = map[string]Probe{"c-a": {Ready: ptr.To(true)}}
	before := Status(p, &v1.PodStatus{}, o)
	ended, next := exited("c", 137), running("c")
	ended.ID, next.ID, next.Attempt = "c-a", "c-b", 1
	made := next
	made.State = Created
	kill := Kill{Restart: true, Again: true}
	for name, tc := range map[string]struct {
		kill Kill
		runs []Container
		work func(*v1.Pod, *Work)
		want string
	}{
		"ended":                     {kill, []Container{ended}, nil, "running c-a 0 ready"},
		"its image is pulled":       {kill, []Container{ended}, func(p *v1.Pod, w *Work) { w.Pulls["c"] = &Pull{Step: Step{Busy: true}, Image: "img"} }, "running c-a 0 ready"},
		"its successor is made":     {kill, []Container{made, ended}, func(p *v1.Pod, w *Work) { w.Starts["c"] = &Start{Step: Step{Busy: true}} }, "running c-a 0 ready"},
		"its successor's hook runs": {kill, []Container{next, ended}, func(p *v1.Pod, w *Work) { w.Hooks["c-b"] = HookRuns }, "running c-a 0 ready"},
		"its successor runs":        {kill, []Container{next, ended}, nil, "running c-b 1 unready"},
		"back-off holds it":         {Kill{Restart: true}, []Container{ended}, nil, "ended"},
		"it is not to run again":    {Kill{}, []Container{ended}, nil, "ended"},
		"its successor did not start": {kill, []Container{ended}, func(p *v1.Pod, w *Work) {
			w.Starts["c"] = &Start{Step: Step{Reason: "RunContainerError"}, Hash: Hash(&p.Spec.Containers[0])}
		}, "waiting RunContainerError"},
		"its image is not to be had": {kill, []Container{ended}, func(p *v1.Pod, w *Work) { w.Pulls["c"] = &Pull{Step: Step{Reason: "ErrImagePull"}, Image: "img"} }, "waiting ErrImagePull"},
		"the Pod ends":               {kill, []Container{ended}, func(p *v1.Pod, w *Work) { p.DeletionTimestamp = &metav1.Time{Time: t0} }, "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			p := p.DeepCopy()
			o := seen(tc.runs...)
			o.Work.Kills["c-a"] = &tc.kill
			if tc.work != nil {
				tc.work(p, &o.Work)
			}
			st := Status(p, before.DeepCopy(), o)
			c := st.ContainerStatuses[0]
			got := "ended"
			switch {
			case c.State.Running != nil:
				got = fmt.Sprintf("running %s %d %s", strings.TrimPrefix(c.ContainerID, "podium://"), c.RestartCount, map[bool]string{true: "ready", false: "unready"}[c.Ready])
			case c.State.Waiting != nil:
				got = "waiting " + c.State.Waiting.Reason
			}
			if got != tc.want {
				t.Errorf("the status says %s, want %s", got, tc.want)
			}
			if ready := condition(st.Conditions, v1.PodReady).Status == v1.ConditionTrue; ready != strings.HasSuffix(got, " ready") {
				t.Errorf("the Pod's condition Ready is %v, though the container is %s", ready, got)
			}
		})
	}
}

func TestProbesDecide(t *testing.T) {
	probed := func(p *v1.Pod) {
		p.Spec.Containers[0].StartupProbe, p.Spec.Containers[0].ReadinessProbe = &v1.Probe{}, &v1.Probe{}
	}
	yes, no := ptr.To(true), ptr.To(false)
	tests := []struct {
		name           string
		probe          Probe
		prev           *v1.ContainerStatus
		started, ready bool
	}{
		{"nothing concluded", Probe{}, nil, false, false},
		{"ready but not started", Probe{Ready: yes}, nil, false, false},
		{"started", Probe{Started: yes}, nil, true, false},
		{"all well", Probe{Started: yes, Ready: yes}, nil, true, true},
		{"not ready", Probe{Started: yes, Ready: no}, nil, true, false},
		{"as it was before the daemon restarted", Probe{}, &v1.ContainerStatus{ContainerID: "podium://c-a", Started: yes, Ready: true,
			State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}, true, true},
		{"another container was", Probe{}, &v1.ContainerStatus{ContainerID: "podium://old", Started: yes, Ready: true,
			State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}, false, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			o := seen(running("c"))
			o.Probes = map[string]Probe{"c-a": tc.probe}
			prev := v1.PodStatus{}
			if tc.prev != nil {
				tc.prev.Name = "c"
				prev.ContainerStatuses = []v1.ContainerStatus{*tc.prev}
			}
			c := Status(simple(probed), &prev, o).ContainerStatuses[0]
			if *c.Started != tc.started || c.Ready != tc.ready {
				t.Errorf("started %v, ready %v", *c.Started, c.Ready)
			}
		})
	}
}

func TestFinalStatus(t *testing.T) {
	p := simple(func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: t0} })
	o := seen()
	o.Sandboxes = nil
	st := Status(p, &v1.PodStatus{Phase: v1.PodPending}, o)
	if st.Phase != v1.PodPending {
		t.Errorf("phase %s before all was given back", st.Phase)
	}
	o.Work.TearDown.Done = true
	st = Status(p, &st, o)
	end := st.ContainerStatuses[0].State.Terminated
	if st.Phase != v1.PodFailed || end == nil || end.Reason != "ContainerStatusUnknown" || end.ExitCode != 137 ||
		end.Message != "The container could not be located when the pod was terminated" {
		t.Errorf("%s %+v", st.Phase, st.ContainerStatuses[0].State)
	}
}

func TestPublishHoldsTheEndBack(t *testing.T) {
	p := simple(policy(v1.RestartPolicyNever))
	api := v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{{Type: "mine"}, {Type: v1.PodReady, Status: v1.ConditionTrue}}}
	st := Status(p, &api, seen(exited("c", 1)))
	now := metav1.NewTime(t0)
	if out := Publish(p, &api, &st, true, now); out.Phase != v1.PodRunning {
		t.Errorf("phase %s while the sandbox stands", out.Phase)
	}
	out := Publish(p, &api, &st, false, now)
	if out.Phase != v1.PodFailed || condition(out.Conditions, "mine") == nil || condition(out.Conditions, v1.PodReady).Status != v1.ConditionFalse {
		t.Errorf("%+v", out)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	c := exited("c", 1)
	c.Message = strings.Repeat("x", 20<<10)
	p := simple(func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d"}) })
	st := Status(p, &v1.PodStatus{}, seen(c))
	if n := len(st.ContainerStatuses[0].State.Terminated.Message); n != 6<<10 {
		t.Errorf("%d bytes", n)
	}
}

func TestVolumeMounts(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
			{Name: "a", MountPath: "/a"},
			{Name: "b", MountPath: "/b", ReadOnly: true},
			{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyIfPossible)},
		}
	})
	o := seen(running("c"))
	o.Node.RecursiveReadOnly = true
	st := Status(p, &v1.PodStatus{}, o)
	got, _ := json.Marshal(st.ContainerStatuses[0].VolumeMounts)
	want := `[{"name":"a","mountPath":"/a"},{"name":"b","mountPath":"/b","readOnly":true,"recursiveReadOnly":"Disabled"},` +
		`{"name":"c","mountPath":"/c","readOnly":true,"recursiveReadOnly":"Enabled"}]`
	if string(got) != want {
		t.Errorf("%s", got)
	}
}

func TestResources(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m"), v1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   v1.ResourceList{v1.ResourceCPU: resource.MustParse("200m"), v1.ResourceMemory: resource.MustParse("64Mi")},
		}
		p.Status.Phase = v1.PodRunning
	})
	c := running("c")
	c.Resources = Resources{CPULimit: ptr.To(resource.MustParse("300m"))}
	st := Status(p, &v1.PodStatus{}, seen(c))
	got := st.ContainerStatuses[0]
	if got.Resources.Limits.Cpu().String() != "300m" || got.Resources.Requests.Cpu().String() != "100m" ||
		got.AllocatedResources.Memory().String() != "64Mi" {
		t.Errorf("%+v", got.Resources)
	}
	if st.AllocatedResources.Cpu().String() != "100m" || st.Resources.Limits.Cpu().String() != "200m" || st.Resources.Requests.Cpu().String() != "100m" {
		t.Errorf("%+v", st.Resources)
	}
}

func TestBackoffAnnotation(t *testing.T) {
	window, key := ParseBackoff(FormatBackoff(20*time.Second, "abc"))
	if window != 20*time.Second || key != "abc" {
		t.Errorf("%s %s", window, key)
	}
	for _, bad := range []string{"", "x", "x/y", "-1s/k"} {
		if window, key := ParseBackoff(bad); window != 0 || key != "" {
			t.Errorf("%q: %s %s", bad, window, key)
		}
	}
}

func TestGracePeriods(t *testing.T) {
	probe := &v1.Probe{ProbeHandler: v1.ProbeHandler{}, TerminationGracePeriodSeconds: ptr.To[int64](3)}
	c := &v1.Container{Name: "c", LivenessProbe: probe}
	p := simple()
	if g := killGrace(p, c, KillLiveness); g != 3 {
		t.Errorf("liveness: %d", g)
	}
	if g := killGrace(p, c, KillStartup); g != 30 {
		t.Errorf("startup: %d", g)
	}
	p.DeletionGracePeriodSeconds = ptr.To[int64](7)
	if g := killGrace(p, c, KillLiveness); g != 7 {
		t.Errorf("deleted: %d", g)
	}
	o := seen()
	o.Orders.Evict = &Verdict{Grace: ptr.To[int64](0)}
	if g := (&planner{pod: p, o: o}).grace(); g != 1 {
		t.Errorf("evicted: %d", g)
	}
}

// kinds names the actions of a plan.
func kinds(actions []Action) []string {
	var out []string
	for _, a := range actions {
		switch a := a.(type) {
		case Wake:
		case StartContainer:
			out = append(out, "start "+a.Container.Name)
		case BeginKill:
			out = append(out, "kill "+a.Name)
		case StopContainer:
			out = append(out, "stop "+a.ID)
		case PullVolume:
			out = append(out, "pull volume "+a.Volume.Name)
		case PullImage:
			out = append(out, "pull "+a.Container.Name)
		case CreateSandbox:
			out = append(out, "sandbox")
		case SetUpVolumes:
			out = append(out, "volumes")
		case TearDown:
			out = append(out, "tear down")
		case RemoveContainer:
			out = append(out, "remove "+a.ID)
		case StopSandbox:
			out = append(out, "stop sandbox")
		case WarnBackOff:
			out = append(out, "warn "+a.ID)
		}
	}
	return out
}

func TestPlans(t *testing.T) {
	pulled := func(names ...string) func(*Observed) {
		return func(o *Observed) {
			for _, name := range names {
				o.Work.Pulls[name] = &Pull{Step: Step{Done: true}, Image: "img", Ref: "ref"}
			}
		}
	}
	mounting := func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "files"}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}
	hook := func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}}
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Image: "img"})
	}
	tests := []struct {
		name   string
		pod    *v1.Pod
		seen   *Observed
		change func(*Observed)
		want   []string
	}{
		{"first, all at once", simple(), &Observed{Now: t0}, nil, []string{"volumes", "pull c", "sandbox"}},
		{"start", simple(), seen(), pulled("c"), []string{"start c"}},
		{"not before the volumes", simple(), seen(), func(o *Observed) { pulled("c")(o); o.Work.Volumes = Step{Busy: true} }, nil},
		{"runs", simple(), seen(running("c")), nil, nil},
		{"ended", simple(), seen(exited("c", 0)), pulled("c"), []string{"start c"}},
		{"ended for good", simple(policy(v1.RestartPolicyNever)), seen(exited("c", 0)), nil, []string{"stop sandbox"}},
		{"a lost one is killed first", simple(), seen(Container{Name: "c", State: Unknown}), nil, []string{"kill c"}},
		{"then forgotten", simple(), seen(Container{Name: "c", State: Unknown}), func(o *Observed) {
			o.Work.Kills["c-a"] = &Kill{Stop: Step{Done: true}}
		}, []string{"remove c-a"}},
		{"a made one is started", simple(), seen(Container{Name: "c", ID: "made"}), pulled("c"), []string{"start c"}},
		{"the hook of the first holds up the second", simple(hook), seen(), pulled("c", "d"), []string{"start c"}},
		{"while it runs too", simple(hook), seen(running("c")), func(o *Observed) {
			pulled("d")(o)
			o.Work.Hooks["c-a"] = HookRuns
		}, nil},
		{"until it is through", simple(hook), seen(running("c")), pulled("d"), []string{"start d"}},
		{"the image of a volume too", simple(mounting), &Observed{Now: t0}, nil, []string{"volumes", "pull c", "pull volume v", "sandbox"}},
		{"once for two containers", simple(mounting, func(p *v1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, *p.Spec.Containers[0].DeepCopy())
			p.Spec.Containers[1].Name = "d"
		}), seen(), pulled("c", "d"), []string{"pull volume v"}},
		{"not before it is there", simple(mounting), seen(), func(o *Observed) {
			pulled("c")(o)
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Busy: true}, Image: "files"}
		}, nil},
		{"nor after it failed, until the time has come", simple(mounting), seen(), func(o *Observed) {
			pulled("c")(o)
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Reason: "ErrImagePull", Retry: t0.Add(time.Second)}, Image: "files"}
		}, nil},
		{"with it", simple(mounting), seen(), func(o *Observed) {
			pulled("c")(o)
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Done: true}, Image: "files", Ref: "id"}
		}, []string{"start c"}},
		{"asked for again at a restart", simple(mounting), seen(exited("c", 0)), func(o *Observed) {
			pulled("c")(o)
			o.Work.VolumePulls["v"] = &Pull{Step: Step{Done: true}, Image: "files", Ref: "id", Used: map[string]bool{"c": true}}
		}, []string{"pull volume v"}},
		{"a failed hook kills", simple(), seen(running("c")), func(o *Observed) { o.Work.Hooks["c-a"] = HookFailed }, []string{"kill c"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.change != nil {
				tc.change(tc.seen)
			}
			st := Status(tc.pod, &v1.PodStatus{}, tc.seen)
			if got := kinds(Plan(tc.pod, &st, tc.seen)); !slices.Equal(got, tc.want) {
				t.Errorf("plan %q, want %q", got, tc.want)
			}
		})
	}
}
