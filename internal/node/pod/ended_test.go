package pod

import (
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// An init container that lost a process to the kernel has failed though its code is 0: a Pod that is never restarted
// has failed with it, others run it again. It does not wait for ever for a container that nobody starts.
func TestInitContainerThatLostAChild(t *testing.T) {
	lost := Container{Name: "i", State: Exited, Reason: "OOMKilled"}
	for rp, want := range map[v1.RestartPolicy]struct {
		phase v1.PodPhase
		plan  []string
	}{
		v1.RestartPolicyNever:     {v1.PodFailed, []string{"stop sandbox"}},
		v1.RestartPolicyOnFailure: {v1.PodPending, []string{"start i"}},
		v1.RestartPolicyAlways:    {v1.PodPending, []string{"start i"}},
	} {
		p := simple(policy(rp), func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{{Name: "i", Image: "img"}} })
		o := seen(lost)
		o.Work.Pulls["i"] = &Pull{Step: Step{Done: true}, Image: "img", Ref: "ref"}
		st := Status(p, &v1.PodStatus{}, o)
		i := find(st.InitContainerStatuses, "i")
		if st.Phase != want.phase || i.Ready {
			t.Errorf("%s: phase %s, want %s; ready %v", rp, st.Phase, want.phase, i.Ready)
		}
		if end := i.State.Terminated; rp == v1.RestartPolicyNever && (end == nil || end.Reason != "OOMKilled") {
			t.Errorf("%s: state %+v", rp, i.State)
		}
		if c := condition(st.Conditions, v1.PodInitialized); c == nil || c.Status != v1.ConditionFalse {
			t.Errorf("%s: condition %+v", rp, c)
		}
		if got := kinds(Plan(p, &st, o)); !slices.Equal(got, want.plan) {
			t.Errorf("%s: plan %q, want %q", rp, got, want.plan)
		}
	}
}

// A regular container that lost a child and ends well has done its work, as in Kubernetes.
func TestContainerThatLostAChild(t *testing.T) {
	p := simple(policy(v1.RestartPolicyOnFailure))
	if st := Status(p, &v1.PodStatus{}, seen(Container{Name: "c", State: Exited, Reason: "OOMKilled"})); st.Phase != v1.PodSucceeded {
		t.Errorf("phase %s", st.Phase)
	}
}

// A kill that began when the container had ended already did not end it: what it left decides, and its back-off counts.
func TestKillThatCameTooLate(t *testing.T) {
	p := simple(policy(v1.RestartPolicyOnFailure))
	c := &p.Spec.Containers[0]
	run := exited("c", 0)
	run.Backoff, run.BackoffKey = 10*time.Second, backoffKey(c)
	o := seen(run)
	end := o.Containers[0].FinishedAt
	for since, late := range map[time.Time]bool{end.Add(time.Millisecond): true, end.Add(-time.Millisecond): false} {
		o.Work.Kills["c-a"] = &Kill{Since: since, Restart: true, Again: true, Stop: Step{Done: true}}
		if got := wanted(p, c, o); got == late {
			t.Errorf("too late: %v; is it started again? %v", late, got)
		}
		if _, _, waits := held(c, o); waits != late {
			t.Errorf("too late: %v; does its back-off hold it? %v", late, waits)
		}
	}
}

// A sidecar is not told to end before a container that is just being started, which is not cut short.
func TestSidecarOutlivesAStart(t *testing.T) {
	p := simple(func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{{Name: "side", Image: "img", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}}
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(t0)), ptr.To[int64](30)
	})
	o := seen(running("side"), exited("c", 1))
	o.Work.Kills["side-a"] = &Kill{Since: t0, Grace: 30}
	o.Work.Starts["c"] = &Start{Step: Step{Busy: true}}
	st := Status(p, &v1.PodStatus{}, o)
	if got := kinds(Plan(p, &st, o)); len(got) != 0 {
		t.Errorf("plan %q while the container is being started", got)
	}
	delete(o.Work.Starts, "c")
	if got := kinds(Plan(p, &st, o)); !slices.Equal(got, []string{"stop side-a"}) {
		t.Errorf("plan %q when nothing is being started", got)
	}
}
