package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
)

// source is a Pod that never restarts, but for the exit code 42 of its sidecar, which restarts all of it.
func source() *v1.Pod {
	return simple(policy(v1.RestartPolicyNever), func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{{
			Name: "side", Image: "img", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways),
			RestartPolicyRules: []v1.ContainerRestartRule{{
				Action: v1.ContainerRestartRuleActionRestartAllContainers,
				ExitCodes: &v1.ContainerRestartRuleOnExitCodes{
					Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42},
				},
			}},
		}}
	})
}

// A Pod whose containers are killed to be restarted has not failed, though its policy is to restart none.
func TestRestartingAllIsNoEnd(t *testing.T) {
	p := source()
	before := Status(p, &v1.PodStatus{}, seen(running("side"), running("c")))
	o := seen(exited("side", 42), exited("c", 137))
	st := Status(p, &before, o)
	if st.Phase != v1.PodRunning {
		t.Errorf("the Pod is %s while its containers are being restarted", st.Phase)
	}
	if c := condition(st.Conditions, v1.AllContainersRestarting); c == nil || c.Status != v1.ConditionTrue {
		t.Errorf("not said to be restarting: %+v", c)
	}
	if got := kinds(Plan(p, &st, o)); len(got) == 0 {
		t.Error("nothing is planned")
	}
}

// A Pod that ends in the middle of such a restart comes to rest.
func TestRestartingAllEnds(t *testing.T) {
	p := source()
	before := Status(p, &v1.PodStatus{}, seen(running("side"), running("c")))
	st := Status(p, &before, seen(exited("side", 42), exited("c", 137)))
	o := seen(exited("side", 42))
	o.Orders.Evict = &Verdict{Reason: "Evicted"}
	o.Work.TearDown.Done = true
	st = Status(p, &st, o)
	again := Status(p, &st, o)
	if !equality.Semantic.DeepEqual(&st, &again) {
		t.Errorf("the status changes though nothing happens:\n%+v\n%+v", st, again)
	}
}

// When the work of a Pod is done its sidecars end, the last first, and only then has the Pod succeeded.
func TestSidecarsDoNotKeepAPod(t *testing.T) {
	p := simple(policy(v1.RestartPolicyOnFailure), func(p *v1.Pod) {
		for _, name := range []string{"one", "two"} {
			p.Spec.InitContainers = append(p.Spec.InitContainers, v1.Container{
				Name: name, Image: "img", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways),
			})
		}
	})
	st := Status(p, &v1.PodStatus{}, seen(running("one"), running("two"), running("c")))
	for _, tc := range []struct {
		name  string
		o     *Observed
		phase v1.PodPhase
		ends  bool
	}{
		{"the app runs", seen(running("one"), running("two"), running("c")), v1.PodRunning, false},
		{"the app is to run again", seen(running("one"), running("two"), exited("c", 1)), v1.PodRunning, false},
		{"the app is done", seen(running("one"), running("two"), exited("c", 0)), v1.PodRunning, true},
		{"one sidecar is left", seen(running("one"), exited("two", 143), exited("c", 0)), v1.PodRunning, true},
		{"all is done", seen(exited("one", 143), exited("two", 143), exited("c", 0)), v1.PodSucceeded, true},
	} {
		got := Status(p, &st, tc.o)
		if ends := Ending(p, &got, tc.o); got.Phase != tc.phase || ends != tc.ends {
			t.Errorf("%s: %s, ending %v; want %s, %v", tc.name, got.Phase, ends, tc.phase, tc.ends)
		}
	}
}

// An init container that was removed to run again, with all others, is counted once, however often it is looked at.
func TestRestartOfAllCountsOnce(t *testing.T) {
	p := source()
	p.Spec.InitContainers = append([]v1.Container{{Name: "init", Image: "img"}}, p.Spec.InitContainers...)
	st := Status(p, &v1.PodStatus{}, seen(exited("init", 0), running("side"), running("c")))
	st = Status(p, &st, seen(exited("init", 0), exited("side", 42), exited("c", 137)))
	for range 3 {
		st = Status(p, &st, seen(exited("side", 42), exited("c", 137)))
	}
	if got := find(st.InitContainerStatuses, "init"); got.RestartCount != 1 || got.State.Waiting == nil {
		t.Errorf("it was restarted %d times: %+v", got.RestartCount, got.State)
	}
}

// A container that the node ends for its health starts again in one step: the first time that begins no back-off,
// and what came of its own accord counts before.
func TestBackoffOfWhatTheNodeEnds(t *testing.T) {
	p := simple()
	c := &p.Spec.Containers[0]
	ended := exited("c", 137)
	o := seen(ended)
	if got := nextBackoff(c, o); got != firstBackoff {
		t.Errorf("after an end of its own: %v", got)
	}
	o.Work.Kills["c-a"] = &Kill{Restart: true, Again: true}
	if got := nextBackoff(c, o); got != 0 {
		t.Errorf("after the node has ended it: %v", got)
	}
	o.Containers[0].Attempt = 1
	if got := nextBackoff(c, o); got != firstBackoff {
		t.Errorf("after the node has ended it again: %v", got)
	}
}
