package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/probe"
	"podium.dev/podium/internal/podutil"
)

func sidecar(name string) v1.Container {
	return v1.Container{
		Name: name, Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent,
		RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways),
	}
}

func TestInitContainersAndSidecarsInOrder(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{
			sidecar("s1"), {Name: "i1", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent}, sidecar("s2"),
		}
	}))
	n.becomes("web", "initializing", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodPending && len(st.InitContainerStatuses) == 3 && st.InitContainerStatuses[1].State.Running != nil &&
			first0(st).State.Waiting.Reason == "PodInitializing" && !isTrue(st, v1.PodInitialized)
	})
	n.runtime.exit("i1", 0)
	n.running("web")
	n.delete("web", 30)
	n.gone("web")
	var order []string
	for _, call := range n.runtime.callList() {
		if strings.HasPrefix(call, "StartContainer") || strings.HasPrefix(call, "StopContainer") {
			order = append(order, strings.TrimSuffix(call, " 30"))
		}
	}
	want := []string{
		"StartContainer s1", "StartContainer i1", "StartContainer s2", "StartContainer c",
		"StopContainer c", "StopContainer s2", "StopContainer s1",
	}
	if !slices.Equal(order, want) {
		t.Errorf("order: %v", order)
	}
}

func TestInitFailureIsFinal(t *testing.T) {
	n := newNode(t)
	n.runtime.exits["i1"] = 7
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{{Name: "i1", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent}}
	}))
	n.becomes("web", "failed", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.InitContainerStatuses[0].State.Terminated.ExitCode == 7
	})
	if n.runtime.count("StartContainer c") != 0 {
		t.Error("the container was started")
	}
}

func TestSandboxIsRemade(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.runtime.killSandboxes()
	n.becomes("web", "running in a new sandbox", func(st *v1.PodStatus) bool {
		return isTrue(st, v1.PodReady) && first0(st).RestartCount == 1
	})
	n.saw("Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.")
}

func TestSandboxFails(t *testing.T) {
	n := newNode(t)
	n.runtime.fail["RunPodSandbox"] = errors.New("no network")
	n.create(newPod())
	n.saw("Warning FailedCreatePodSandBox: Failed to create pod sandbox: no network")
	n.becomes("web", "creating", func(st *v1.PodStatus) bool {
		return first0(st).State.Waiting != nil && first0(st).State.Waiting.Reason == "ContainerCreating" && !isTrue(st, v1.PodReadyToStartContainers)
	})
	n.runtime.script(func() { delete(n.runtime.fail, "RunPodSandbox") })
	n.advance(retryStart)
	n.running("web")
}

func TestVolumesFail(t *testing.T) {
	n := newNode(t)
	n.volumes.script(utilerrors.NewAggregate([]error{
		errors.New(`MountVolume.SetUp failed for volume "a" : configmap "a" not found`),
		errors.New(`MountVolume.SetUp failed for volume "b" : secret "b" not found`),
	}))
	n.create(newPod())
	n.saw(`Warning FailedMount: MountVolume.SetUp failed for volume "a" : configmap "a" not found`)
	n.saw(`Warning FailedMount: MountVolume.SetUp failed for volume "b" : secret "b" not found`)
	n.volumes.script(nil)
	n.advance(time.Second)
	n.running("web")
}

func TestConfigAndCreateFail(t *testing.T) {
	n := newNode(t)
	n.script(func() {
		n.build = func(container.Input) error { return errors.New(`configmap "a" not found`) }
	})
	n.create(newPod())
	waits := func(reason, message string) {
		t.Helper()
		n.becomes("web", reason, func(st *v1.PodStatus) bool {
			w := first0(st).State.Waiting
			return w != nil && w.Reason == reason && w.Message == message
		})
	}
	waits("CreateContainerConfigError", `configmap "a" not found`)
	n.saw(`Warning Failed spec.containers{c}: Error: configmap "a" not found`)
	n.script(func() { n.build = nil })
	n.runtime.script(func() { n.runtime.fail["CreateContainer"] = errors.New("no room") })
	n.m.Retry("uid-web") // the configmap has come
	waits("CreateContainerError", "no room")
	n.runtime.script(func() {
		delete(n.runtime.fail, "CreateContainer")
		n.runtime.fail["StartContainer"] = errors.New("exec: no such file")
	})
	n.advance(retryStart)
	waits("RunContainerError", "exec: no such file")
	// The second start, which comes at once, fails too; then the back-off shows.
	n.becomes("web", "started twice", func(st *v1.PodStatus) bool {
		w := first0(st).State.Waiting
		return first0(st).RestartCount == 1 && w != nil && w.Reason == "RunContainerError"
	})
	n.clock.Step(6 * time.Second)
	waits("CrashLoopBackOff", "back-off 10s restarting failed container=c pod=web_ns(uid-web)")
	n.runtime.script(func() { delete(n.runtime.fail, "StartContainer") })
	n.advance(10 * time.Second)
	n.running("web")
}

func (n *node) script(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func TestPostStartHookHoldsAndKills(t *testing.T) {
	n := newNode(t)
	through := make(chan error)
	n.hooks.run = func(context.Context, *v1.Container, *v1.LifecycleHandler) error { return <-through }
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}}
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "d", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent})
	}))
	n.eventually(func() string {
		if len(n.hooks.list()) == 1 {
			return ""
		}
		return "no hook"
	})
	if st := n.get("web").Status; first0(&st).State.Running != nil || st.Phase != v1.PodPending {
		t.Errorf("the container counts as running before its hook is through: %+v", st)
	}
	if n.runtime.count("StartContainer d") != 0 {
		t.Error("the next container did not wait for the hook")
	}
	through <- errors.New("no")
	n.saw("Warning FailedPostStartHook spec.containers{c}: PostStartHook failed")
	n.saw("Normal Killing spec.containers{c}: FailedPostStartHook")
	through <- nil
	n.running("web")
	if st := n.get("web").Status; st.ContainerStatuses[0].RestartCount != 1 {
		t.Errorf("status: %+v", st.ContainerStatuses[0])
	}
}

func TestPreStopHookIsBounded(t *testing.T) {
	n := newNode(t)
	n.hooks.run = func(ctx context.Context, _ *v1.Container, _ *v1.LifecycleHandler) error {
		<-ctx.Done()
		return ctx.Err()
	}
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{}}
	}))
	n.running("web")
	n.delete("web", 10)
	n.eventually(func() string {
		if len(n.hooks.list()) == 1 {
			return ""
		}
		return "no hook"
	})
	n.advance(10 * time.Second)
	n.gone("web")
	if n.runtime.count("StopContainer c 2") != 1 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	n.saw("Warning FailedPreStopHook spec.containers{c}: PreStopHook failed")
}

func TestLivenessRestarts(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) { p.Spec.Containers[0].LivenessProbe = &v1.Probe{} }))
	n.running("web")
	for i := range 2 {
		n.eventually(func() string {
			if n.probes.conclude("uid-web", "c", probe.Outcome{Live: ptr.To(false)}) {
				return ""
			}
			return "not probed"
		})
		n.becomes("web", "restarted", func(st *v1.PodStatus) bool { return first0(st).RestartCount == int32(i+1) && isTrue(st, v1.PodReady) })
		n.clock.Step(15 * time.Second)
	}
	n.saw("Normal Killing spec.containers{c}: Container c failed liveness probe, will be restarted")
	if n.runtime.count("RunPodSandbox web") != 1 {
		t.Error("the sandbox did not stay")
	}
}

func TestReadinessShows(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = &v1.Probe{} }))
	n.becomes("web", "running", func(st *v1.PodStatus) bool { return st.Phase == v1.PodRunning && !isTrue(st, v1.PodReady) })
	conclude := func(ready bool) {
		t.Helper()
		n.eventually(func() string {
			if n.probes.conclude("uid-web", "c", probe.Outcome{Ready: &ready}) {
				return ""
			}
			return "not probed"
		})
		n.becomes("web", fmt.Sprintf("ready: %v", ready), func(st *v1.PodStatus) bool {
			return isTrue(st, v1.PodReady) == ready && first0(st).Ready == ready
		})
	}
	conclude(true)
	// The probes begin again with the agent, and the container stays ready until they conclude.
	n.probes.mu.Lock()
	n.probes.outcomes = nil
	n.probes.mu.Unlock()
	n.restart()
	n.eventually(func() string {
		if p, ok := n.m.Pod("uid-web"); ok && isTrue(&p.Status, v1.PodReady) {
			return ""
		}
		return "not ready"
	})
	conclude(false)
}

func TestEvicted(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	quiet := n.m.Evict("uid-web", pod.Verdict{
		Reason: "Evicted", Message: "The node was low on resource: memory.", Grace: ptr.To[int64](0),
		DisruptionReason: "TerminationByKubelet", Disruption: "The node was low on resource: memory.",
	})
	<-quiet
	n.becomes("web", "evicted", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.Reason == "Evicted" && isTrue(st, v1.DisruptionTarget) && first0(st).State.Terminated != nil
	})
	if n.runtime.count("StopContainer c 2") != 1 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	if n.m.Evict("nobody", pod.Verdict{}) != nil {
		t.Error("a pod that is not there was evicted")
	}
}

func TestDeadline(t *testing.T) {
	n := newNode(t)
	n.create(newPod(func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](20) }))
	n.running("web")
	n.advance(20 * time.Second)
	n.becomes("web", "past its deadline", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.Reason == "DeadlineExceeded" && st.Message == "Pod was active on the node longer than the specified deadline"
	})
	n.saw("Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline")
}

func TestImageChangeReplaces(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.change("web", func(p *v1.Pod) { p.Spec.Containers[0].Image = "nginx:2" })
	n.becomes("web", "running the new image", func(st *v1.PodStatus) bool {
		return first0(st).Image == "nginx:2" && first0(st).RestartCount == 1 && isTrue(st, v1.PodReady)
	})
	n.saw("Normal Killing spec.containers{c}: Container c definition changed, will be restarted")
}

func TestEphemeralContainer(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.change("web", func(p *v1.Pod) {
		p.Spec.EphemeralContainers = []v1.EphemeralContainer{{
			EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "nginx:1", ImagePullPolicy: v1.PullIfNotPresent},
			TargetContainerName:      "c",
		}}
	})
	n.becomes("web", "debugged", func(st *v1.PodStatus) bool {
		return len(st.EphemeralContainerStatuses) == 1 && st.EphemeralContainerStatuses[0].State.Running != nil
	})
	n.runtime.exit("debug", 0)
	n.becomes("web", "debugged to the end", func(st *v1.PodStatus) bool {
		return st.EphemeralContainerStatuses[0].State.Terminated != nil && isTrue(st, v1.PodReady)
	})
	n.saw("Normal Started spec.ephemeralContainers{debug}: Container started")
}

func TestRejected(t *testing.T) {
	room := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n"},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourcePods: resource.MustParse("10"), v1.ResourceCPU: resource.MustParse("1"), v1.ResourceMemory: resource.MustParse("1Gi"),
		}},
	}
	n := newNode(t, func(c *Config) { c.Node = func() *v1.Node { return room } })
	n.create(newPod(func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}
	}))
	n.becomes("web", "rejected", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.Reason == "OutOfcpu" &&
			st.Message == "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000"
	})
	n.saw("Warning OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000")
	if got := n.runtime.callList(); len(got) != 0 {
		t.Errorf("calls: %v", got)
	}
	n.delete("web", 0)
	n.gone("web")
}

func TestEventsAreMissed(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.runtime.script(func() { n.runtime.mute = true })
	n.runtime.exit("c", 1)
	n.runtime.script(func() { n.runtime.mute = false })
	n.runtime.breakStreams()
	n.pass("web", "restarted", func(st *v1.PodStatus) bool { return first0(st).RestartCount == 1 && isTrue(st, v1.PodReady) })
	// A stream that says nothing at all: the slow listing finds what was missed.
	n.runtime.script(func() { n.runtime.mute = true })
	n.runtime.exit("c", 1)
	n.runtime.script(func() { n.runtime.mute = false })
	n.advance(resyncEvery)
	n.becomes("web", "restarted", func(st *v1.PodStatus) bool { return first0(st).RestartCount == 2 && isTrue(st, v1.PodReady) })
}

func TestOrphansGo(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	n.stop()
	if err := n.client.Tracker().Delete(v1.SchemeGroupVersion.WithResource("pods"), "ns", "web"); err != nil {
		t.Fatal(err)
	}
	n.up()
	n.gone("web")
	n.eventually(func() string {
		n.volumes.mu.Lock()
		defer n.volumes.mu.Unlock()
		if n.volumes.torn["uid-web"] == 1 {
			return ""
		}
		return "the volumes are still there"
	})
}

func TestDeletedWhileTheAgentWasAway(t *testing.T) {
	n := newNode(t)
	n.runtime.deaf["c"] = true
	n.create(newPod())
	n.running("web")
	n.stop()
	n.delete("web", 30)
	n.clock.Step(25 * time.Second)
	n.up()
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 5") == 1 {
			return ""
		}
		return "not stopped with the grace that is left"
	})
	n.advance(5 * time.Second)
	n.gone("web")
}

func staticPod(uid string) *v1.Pod {
	return newPod(func(p *v1.Pod) {
		p.Name, p.UID = "kube-web", types.UID(uid)
		p.Annotations = map[string]string{podutil.SourceAnnotation: "file", "kubernetes.io/config.hash": uid}
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](3)
	})
}

func TestStaticPods(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Sources = []string{SourceAPI, "file"} })
	one := staticPod("one")
	n.m.SetPods("file", []*v1.Pod{one})
	runs := func(uid types.UID) {
		t.Helper()
		n.eventually(func() string {
			if p, ok := n.m.Pod(uid); ok && isTrue(&p.Status, v1.PodReady) {
				return ""
			}
			return "static pod " + string(uid) + " does not run"
		})
	}
	runs("one")
	// The mirror gets the status as soon as there is one.
	n.create(newPod(func(p *v1.Pod) {
		p.Name, p.UID = "kube-web", "mirror"
		p.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "one", podutil.SourceAnnotation: "file"}
	}))
	n.running("kube-web")
	// An edit of the file is another pod of the same name: it starts when the first has ended.
	n.runtime.script(func() { n.runtime.deaf["c"] = true })
	two := staticPod("two")
	n.m.SetPods("file", []*v1.Pod{two})
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 3") == 1 {
			return ""
		}
		return "the old one is not stopped"
	})
	if n.runtime.count("RunPodSandbox kube-web") != 1 {
		t.Error("two of one name at once")
	}
	n.advance(3 * time.Second)
	runs("two")
	// Gone and back before its end: it runs again after it.
	n.m.DeletePod("file", two)
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 3") == 2 {
			return ""
		}
		return "not stopped"
	})
	n.m.UpdatePod("file", two)
	n.advance(3 * time.Second)
	n.eventually(func() string {
		if n.runtime.count("RunPodSandbox kube-web") == 3 {
			return ""
		}
		return "does not come back"
	})
	runs("two")
	n.runtime.script(func() { delete(n.runtime.deaf, "c") })
	n.m.SetPods("file", nil)
	n.eventually(func() string {
		if n.runtime.empty() {
			return ""
		}
		return "still there"
	})
	if n.get("kube-web") == nil {
		t.Error("the worker removed the mirror, which is not its to remove")
	}
}

func TestStaticPodsRunWithoutAPI(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Client = nil })
	n.m.SetPods("file", []*v1.Pod{staticPod("one")})
	n.eventually(func() string {
		if p, ok := n.m.PodByName("ns", "kube-web"); ok && p.Status.Phase == v1.PodRunning {
			return ""
		}
		return "does not run"
	})
}

func TestHashIsThatOfTheBuilder(t *testing.T) {
	c := &v1.Container{Name: "c", Image: "nginx:1"}
	p := newPod()
	if got := container.NotesOf(nil, container.ContainerAnnotations(p, c, 0)).Hash; fmt.Sprintf("%x", got) != pod.Hash(c) {
		t.Errorf("hash: %x and %s", got, pod.Hash(c))
	}
}

func TestCriticalPodsAreMadeRoomFor(t *testing.T) {
	room := &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{
		v1.ResourcePods: resource.MustParse("10"), v1.ResourceCPU: resource.MustParse("1"),
	}}}
	n := newNode(t, func(c *Config) { c.Node = func() *v1.Node { return room } })
	asks := func(q string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(q)}
		}
	}
	n.runtime.deaf["c"] = true
	n.create(newPod(asks("800m")))
	n.running("web")
	n.create(newPod(asks("500m"), func(p *v1.Pod) {
		p.Name, p.UID, p.Spec.Priority = "critical", "uid-critical", ptr.To[int32](2_000_000_000)
	}))
	n.eventually(func() string {
		if n.runtime.count("StopContainer c 30") == 1 {
			return ""
		}
		return "nobody makes room"
	})
	if n.runtime.count("RunPodSandbox critical") != 0 {
		t.Error("the critical pod did not wait")
	}
	n.saw("Warning Preempting: Preempted in order to admit critical pod")
	n.advance(30 * time.Second)
	n.running("critical")
	n.becomes("web", "preempted", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.Reason == "Preempting" && isTrue(st, v1.DisruptionTarget)
	})
}

// A check of the node's is asked before there is room to be made: a Pod that is refused anyway ends no other.
func TestRefusedBeforeRoomIsMade(t *testing.T) {
	n := newNode(t, allocatable("1", "1Gi"), func(c *Config) {
		c.Admit = []func(*v1.Pod, []*v1.Pod) *pod.Verdict{func(p *v1.Pod, _ []*v1.Pod) *pod.Verdict {
			if p.Name != "critical" {
				return nil
			}
			return &pod.Verdict{Reason: "SysctlForbidden", Message: "forbidden sysctl"}
		}}
	})
	n.create(newPod(sized("800m", "100Mi")))
	n.running("web")
	critical := newPod(sized("800m", "100Mi"), func(p *v1.Pod) {
		p.Spec.PriorityClassName, p.Spec.Priority = "system-node-critical", ptr.To[int32](2000001000)
	})
	critical.Name, critical.UID = "critical", "uid-critical"
	n.create(critical)
	n.becomes("critical", "refused", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodFailed && st.Reason == "SysctlForbidden" && st.Message == "Pod was rejected: forbidden sysctl"
	})
	n.running("web")
}

// A Pod whose image is changed is ready all along: the container is replaced in one step.
func TestImageChangeKeepsReady(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	between := make(chan v1.PodStatus, 1)
	n.mu.Lock()
	n.build = func(in container.Input) error {
		if in.Attempt == 1 { // the old container has ended, the new one is not there
			p, _ := n.m.PodByName("ns", "web")
			between <- p.Status
		}
		return nil
	}
	n.mu.Unlock()
	n.change("web", func(p *v1.Pod) {
		p.Spec.Containers[0].Image = "nginx:2"
		p.Generation++
	})
	n.becomes("web", "replaced", func(st *v1.PodStatus) bool {
		return first0(st).RestartCount == 1 && first0(st).State.Running != nil && first0(st).LastTerminationState.Terminated != nil
	})
	st := <-between
	if !isTrue(&st, v1.PodReady) || !isTrue(&st, v1.ContainersReady) || first0(&st).State.Running == nil {
		t.Errorf("between the two containers the status said %+v, %+v", first0(&st).State, st.Conditions)
	}
}
