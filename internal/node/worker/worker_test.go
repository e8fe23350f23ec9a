package worker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestComesUp(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	p := n.get("web")
	if p.Status.PodIP != "10.1.0.2" || p.Status.HostIP != "192.0.2.1" || p.Status.QOSClass != v1.PodQOSBestEffort {
		t.Errorf("status: %+v", p.Status)
	}
	c := first0(&p.Status)
	if !strings.HasPrefix(c.ContainerID, "podium://c-") || c.RestartCount != 0 || c.Started == nil || !*c.Started || c.ImageID != "sha256:nginx" {
		t.Errorf("container status: %+v", c)
	}
	want := []string{
		`Normal Pulled spec.containers{c}: Container image "nginx:1" already present on machine and can be accessed by the pod`,
		`Normal Created spec.containers{c}: Container created`,
		`Normal Started spec.containers{c}: Container started`,
	}
	if got := n.eventList(); !slices.Equal(got, want) {
		t.Errorf("events:\n%s", strings.Join(got, "\n"))
	}
	trace, ok := n.m.Trace("ns", "web")
	if !ok || trace.Running.IsZero() {
		t.Fatalf("trace: %+v", trace)
	}
	var steps []string
	for _, s := range trace.Steps {
		if s.Name != "report" {
			steps = append(steps, s.Name)
		}
	}
	slices.Sort(steps)
	if !slices.Equal(steps, []string{"cgroup", "config", "create", "image", "sandbox", "start", "volumes"}) {
		t.Errorf("steps: %v", steps)
	}
}

func TestRestartsWithBackOff(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.runtime.exit("c", 1)
	n.becomes("web", "restarted at once", func(st *v1.PodStatus) bool {
		c := first0(st)
		return c.RestartCount == 1 && c.State.Running != nil && c.LastTerminationState.Terminated != nil &&
			c.LastTerminationState.Terminated.ExitCode == 1
	})
	for i, wait := range []string{"10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"} {
		n.runtime.exit("c", 1)
		n.becomes("web", "ended", func(st *v1.PodStatus) bool { return first0(st).State.Terminated != nil })
		n.advance(time.Second)
		n.becomes("web", "backing off for "+wait, func(st *v1.PodStatus) bool {
			c := first0(st)
			return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" &&
				c.State.Waiting.Message == "back-off "+wait+" restarting failed container=c pod=web_ns(uid-web)" &&
				st.Phase == v1.PodRunning && !isTrue(st, v1.PodReady)
		})
		d, _ := time.ParseDuration(wait)
		n.advance(d - time.Second)
		n.becomes("web", "running again", func(st *v1.PodStatus) bool {
			return first0(st).State.Running != nil && first0(st).RestartCount == int32(i+2)
		})
	}
	n.saw("Warning BackOff spec.containers{c}: Back-off restarting failed container c in pod web_ns(uid-web)")
	n.clock.Step(11 * time.Minute)
	n.runtime.exit("c", 0)
	n.becomes("web", "restarted with a clean slate", func(st *v1.PodStatus) bool { return first0(st).State.Waiting != nil || first0(st).RestartCount == 9 })
}

func TestIsDeleted(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{}}
	}))
	n.running("web")
	n.delete("web", 30)
	n.gone("web")
	if got := n.hooks.list(); !slices.Equal(got, []string{"preStop c"}) {
		t.Errorf("hooks: %v", got)
	}
	n.saw("Normal Killing spec.containers{c}: Stopping container c")
	want := []string{
		"RunPodSandbox web", "CreateContainer c", "StartContainer c", "StopContainer c 30", "StopPodSandbox web",
		"StopPodSandbox web", "RemoveContainer c", "RemovePodSandbox web",
	}
	if got := n.runtime.callList(); !slices.Equal(got, want) {
		t.Errorf("calls: %v", got)
	}
	if n.volumes.torn["uid-web"] != 1 {
		t.Errorf("volumes: %v", n.volumes.torn)
	}
	n.eventually(func() string {
		if len(n.m.Pods()) == 0 {
			return ""
		}
		return "the worker is still there"
	})
}

func TestShorterGraceCounts(t *testing.T) {
	n := newNode(t)
	n.runtime.deaf["c"] = true
	n.create(newPod())
	n.running("web")
	n.delete("web", 30)
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 30") == 1 {
			return ""
		}
		return "not stopped"
	})
	n.delete("web", 5)
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 5") == 1 {
			return ""
		}
		return "not stopped with less grace"
	})
	n.advance(5 * time.Second)
	n.gone("web")
}

func TestForceDeletedIsCleared(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	if err := n.client.Tracker().Delete(v1.SchemeGroupVersion.WithResource("pods"), "ns", "web"); err != nil {
		t.Fatal(err)
	}
	n.gone("web")
}

func TestSucceeds(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	n.running("web")
	n.runtime.exit("c", 0)
	n.becomes("web", "succeeded", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodSucceeded && st.PodIP == "10.1.0.2" && first0(st).State.Terminated.Reason == "Completed" && !isTrue(st, v1.PodReady)
	})
	n.eventually(func() string {
		if slices.Contains(n.runtime.callList(), "StopPodSandbox web") {
			return ""
		}
		return "the sandbox still stands"
	})
	if n.runtime.empty() {
		t.Error("the container, and with it its log, went before the pod did")
	}
	n.delete("web", 0)
	n.gone("web")
}

func TestAgentRestarts(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent})
	}))
	n.running("web")
	n.stop()
	n.runtime.exit("d", 3)
	n.up()
	n.becomes("web", "running with d restarted", func(st *v1.PodStatus) bool {
		return isTrue(st, v1.PodReady) && st.ContainerStatuses[0].RestartCount == 0 && st.ContainerStatuses[1].RestartCount == 1 &&
			st.ContainerStatuses[1].LastTerminationState.Terminated.ExitCode == 3
	})
	if n.runtime.count("StartContainer c") != 1 || n.runtime.count("StartContainer d") != 2 || n.runtime.count("RunPodSandbox web") != 1 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	// The back-off outlives the agent too.
	n.runtime.exit("d", 3)
	n.becomes("web", "told to have ended", func(st *v1.PodStatus) bool { return st.ContainerStatuses[1].State.Terminated != nil })
	n.advance(time.Second)
	n.becomes("web", "backing off", func(st *v1.PodStatus) bool { return st.ContainerStatuses[1].State.Waiting != nil })
	n.restart()
	n.becomes("web", "still backing off", func(st *v1.PodStatus) bool {
		w := st.ContainerStatuses[1].State.Waiting
		return w != nil && strings.HasPrefix(w.Message, "back-off 10s")
	})
	if n.runtime.count("StartContainer d") != 2 {
		t.Errorf("d was started while it was to be left alone: %v", n.runtime.callList())
	}
}

func TestImageCannotBePulled(t *testing.T) {
	n := newNode(t)
	n.runtime.fail["PullImage other:2"] = errors.New("no such image")
	n.create(newPod(func(p *v1.Pod) { p.Spec.Containers[0].Image = "other:2" }))
	waits := func(reason, message string) {
		t.Helper()
		n.becomes("web", reason, func(st *v1.PodStatus) bool {
			w := first0(st).State.Waiting
			return w != nil && w.Reason == reason && w.Message == message && st.Phase == v1.PodPending
		})
	}
	waits("ErrImagePull", "no such image")
	n.advance(2 * time.Second)
	waits("ImagePullBackOff", `Back-off pulling image "other:2": ErrImagePull: no such image`)
	n.runtime.script(func() { delete(n.runtime.fail, "PullImage other:2") })
	n.advance(10 * time.Second)
	n.running("web")
	n.saw(`Normal Pulling spec.containers{c}: Pulling image "other:2"`)
	n.saw(`Warning Failed spec.containers{c}: Failed to pull image "other:2": no such image`)
	n.saw(`Warning Failed spec.containers{c}: Error: ErrImagePull`)
	n.saw(`Normal BackOff spec.containers{c}: Back-off pulling image "other:2"`)
	n.saw(`Warning Failed spec.containers{c}: Error: ImagePullBackOff`)
	n.saw(`Normal Pulled spec.containers{c}: Successfully pulled image "other:2" in 0s (0s including waiting). Image size: 7 bytes.`)
}
