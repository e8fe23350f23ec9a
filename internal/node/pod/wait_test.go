package pod

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// First it is told that a container has ended, then that it is held back, and that until its next run is up.
func TestWaitingStaysWhileTheNextStartIsOnItsWay(t *testing.T) {
	p := simple()
	crashed := exited("c", 1)
	crashed.Backoff, crashed.BackoffKey = 20*time.Second, backoffKey(&p.Spec.Containers[0])
	o := seen(crashed)
	o.Now = o.Containers[0].FinishedAt
	st := Status(p, &v1.PodStatus{}, o)
	if end := st.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 1 {
		t.Errorf("just ended: %+v", st.ContainerStatuses[0].State)
	}
	held := func(when string) {
		t.Helper()
		st = Status(p, &st, o)
		if w := st.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "CrashLoopBackOff" {
			t.Errorf("%s: %+v", when, st.ContainerStatuses[0].State)
		}
	}
	o.Now = o.Now.Add(time.Second)
	held("a second later")
	o.Now = t0.Add(time.Minute)
	o.Work.Starts["c"] = &Start{Step: Step{Reason: "RunContainerError", Failed: t0}, Hash: Hash(&p.Spec.Containers[0])}
	held("about to be made, the last time in vain")
	o.Work.Starts["c"] = &Start{Step: Step{Busy: true}}
	held("being made")
	next := running("c")
	next.ID, next.SandboxID = "next", "s"
	o.Containers = append([]Container{next}, o.Containers...)
	held("being started")
}

// A container whose postStart handler failed is told to have ended as it did, also when it does not run again.
func TestFailedHookEndsForGood(t *testing.T) {
	p := simple(policy(v1.RestartPolicyNever))
	o := seen(running("c"))
	o.Work.Hooks["c-a"] = HookFailed
	st := Status(p, &v1.PodStatus{}, o)
	if w := st.ContainerStatuses[0].State.Waiting; w == nil {
		t.Errorf("before it is ended: %+v", st.ContainerStatuses[0].State)
	}
	o.Containers[0].State, o.Containers[0].ExitCode, o.Containers[0].Reason = Exited, 137, "Error"
	st = Status(p, &st, o)
	if end := st.ContainerStatuses[0].State.Terminated; st.Phase != v1.PodFailed || end == nil || end.ExitCode != 137 || end.Reason != "Error" {
		t.Errorf("%s: %+v", st.Phase, st.ContainerStatuses[0].State)
	}
}
