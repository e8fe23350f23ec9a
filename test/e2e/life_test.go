package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podium.dev/podium/internal/cgroup"
)

// eventuallyEvent waits for an event of a Pod with the reason, whose message has the text.
func (s *space) eventuallyEvent(name, reason, text string) {
	s.Helper()
	s.eventually(fmt.Sprintf("Pod %s has an event %s with %q", name, reason, text), func() error {
		events, err := s.node.client.CoreV1().Events(s.ns).List(s.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.Reason == reason && strings.Contains(e.Message, text) {
				return nil
			}
			seen = append(seen, e.Reason+": "+e.Message)
		}
		return fmt.Errorf("it has %q", seen)
	})
}

// withHostDir gives every container of the Pod a folder of the machine at /shared.
func withHostDir(p *corev1.Pod, dir string) *corev1.Pod {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "shared", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}})
	mount := corev1.VolumeMount{Name: "shared", MountPath: "/shared"}
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].VolumeMounts = append(p.Spec.InitContainers[i].VolumeMounts, mount)
	}
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].VolumeMounts = append(p.Spec.Containers[i].VolumeMounts, mount)
	}
	return p
}

func execAction(script string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", script}}}
}

func execHook(script string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", script}}}
}

// readText waits until a file of the machine is there and answers with what it holds.
func (s *space) readText(path string) string {
	s.Helper()
	var text []byte
	s.eventually(path+" is written", func() (err error) {
		text, err = os.ReadFile(path)
		return err
	})
	return string(text)
}

// A failed liveness probe kills and restarts the container, and says so; the Pod keeps its address.
func TestLivenessProbe(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("sick", "touch /tmp/healthy; exec sleep 3600")
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: execAction("cat /tmp/healthy"), PeriodSeconds: 1, FailureThreshold: 2, InitialDelaySeconds: 1}
	s.create(pod)
	before := s.awaitRunning("sick")
	s.kubectl("exec", "sick", "--", "rm", "/tmp/healthy")
	after := s.await("sick", "restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 1 && isReady(p) })
	if after.Status.PodIP != before.Status.PodIP {
		s.Errorf("the address changed from %s to %s", before.Status.PodIP, after.Status.PodIP)
	}
	s.eventuallyEvent("sick", "Unhealthy", "Liveness probe failed: cat: ")
	s.eventuallyEvent("sick", "Killing", "failed liveness probe, will be restarted")
}

// Readiness follows its probe both ways, and a startup probe holds the others back.
func TestReadinessAndStartupProbe(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("web", "")
	pod.Spec.Containers[0] = corev1.Container{
		Name: "web", Image: webImage,
		StartupProbe: &corev1.Probe{ProbeHandler: execAction("test -e /tmp/started"), PeriodSeconds: 1, FailureThreshold: 1000},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/index.html", Port: intstr.FromInt32(80)}},
			PeriodSeconds: 1, FailureThreshold: 1},
	}
	s.create(pod)
	started := func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Started != nil && *p.Status.ContainerStatuses[0].Started
	}
	waiting := s.await("web", "running, and not started", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Running != nil
	})
	if started(waiting) || isReady(waiting) {
		s.Errorf("before the startup probe succeeds: %s", describe(waiting))
	}
	s.kubectl("exec", "web", "--", "touch", "/tmp/started")
	s.await("web", "started and ready", func(p *corev1.Pod) bool { return started(p) && isReady(p) })
	s.kubectl("exec", "web", "--", "mv", "/usr/share/nginx/html/index.html", "/tmp/")
	s.await("web", "not ready", func(p *corev1.Pod) bool { return !isReady(p) })
	s.says([]string{"get", "pod", "web"}, "0/1")
	s.eventuallyEvent("web", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404")
	s.kubectl("exec", "web", "--", "mv", "/tmp/index.html", "/usr/share/nginx/html/")
	if again := s.awaitRunning("web"); again.Status.ContainerStatuses[0].RestartCount != 0 {
		s.Errorf("readiness restarted it: %s", describe(again))
	}
}

// Init containers run in order, each to success, before the others start; a sidecar among them stays.
func TestInitContainers(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	pod := shellPod("steps", "echo app >> /shared/order; exec sleep 3600")
	always := corev1.ContainerRestartPolicyAlways
	step := func(name, script string) corev1.Container {
		return corev1.Container{Name: name, Image: shellImage, Command: []string{"sh", "-c", script}}
	}
	sidecar := step("sidecar", "echo sidecar >> /shared/order; touch /shared/up; exec sleep 3600")
	sidecar.RestartPolicy = &always
	sidecar.StartupProbe = &corev1.Probe{ProbeHandler: execAction("test -e /shared/up"), PeriodSeconds: 1}
	pod.Spec.InitContainers = []corev1.Container{
		step("one", "echo one >> /shared/order; while [ ! -e /shared/go ]; do sleep 0.05; done"),
		sidecar, step("two", "echo two >> /shared/order"),
	}
	s.create(withHostDir(pod, dir))
	s.readText(filepath.Join(dir, "order"))
	s.await("steps", "running its first init container", func(p *corev1.Pod) bool {
		return len(p.Status.InitContainerStatuses) > 0 && p.Status.InitContainerStatuses[0].State.Running != nil
	})
	s.says([]string{"get", "pod", "steps"}, "0/2", "Init:0/3")
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		s.Fatal(err)
	}
	s.awaitRunning("steps")
	s.eventually("all have run in order", func() error {
		if got := s.readText(filepath.Join(dir, "order")); got != "one\nsidecar\ntwo\napp\n" {
			return fmt.Errorf("the order was %q", got)
		}
		return nil
	})
	s.says([]string{"get", "pod", "steps"}, "2/2", "Running")

	bad := shellPod("bad", "touch /shared/never")
	bad.Spec.RestartPolicy = corev1.RestartPolicyNever
	bad.Spec.InitContainers = []corev1.Container{step("fails", "exit 3")}
	s.create(withHostDir(bad, dir))
	s.awaitPhase("bad", corev1.PodFailed)
	s.says([]string{"get", "pod", "bad"}, "Init:Error")
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		s.Error("the container ran although its init container failed")
	}
}

// postStart runs beside the container before it counts as running, preStop before the signal.
func TestHooks(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	pod := shellPod("hooks", "trap 'echo term >> /shared/order; exit 0' TERM; while true; do sleep 0.05; done")
	grace := int64(20)
	pod.Spec.TerminationGracePeriodSeconds = &grace
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
		PostStart: execHook("echo post >> /shared/order"), PreStop: execHook("echo pre >> /shared/order"),
	}
	s.create(withHostDir(pod, dir))
	s.awaitRunning("hooks")
	s.kubectl("delete", "pod", "hooks")
	if got := s.readText(filepath.Join(dir, "order")); got != "post\npre\nterm\n" {
		s.Errorf("the order was %q", got)
	}

	bad := shellPod("bad", "exec sleep 3600")
	bad.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: execHook("echo no good; exit 1")}
	s.create(bad)
	s.eventuallyEvent("bad", "FailedPostStartHook", "PostStartHook failed")
	s.await("bad", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil
	})
}

// What a container says last is in its status.
func TestTerminationMessage(t *testing.T) {
	s := newSpace(t)
	said := shellPod("said", "echo the last words > /dev/termination-log; exit 2", "echo from the log; exit 3")
	said.Spec.RestartPolicy = corev1.RestartPolicyNever
	said.Spec.Containers[1].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	s.create(said)
	got := s.awaitPhase("said", corev1.PodFailed)
	for i, want := range []struct {
		code    int32
		message string
	}{{2, "the last words\n"}, {3, "from the log\n"}} {
		st := got.Status.ContainerStatuses[i].State.Terminated
		if st == nil || st.ExitCode != want.code || st.Message != want.message || st.Reason != "Error" {
			s.Errorf("container %d: %s, want code %d and %q", i, describe(got), want.code, want.message)
		}
	}
}

// The grace period is given, then the container is killed; --force does not wait.
func TestGracefulDeletion(t *testing.T) {
	s := newSpace(t)
	stubborn := shellPod("stubborn", "trap '' TERM; while true; do sleep 0.05; done")
	s.create(stubborn)
	s.awaitRunning("stubborn")
	began := time.Now()
	s.kubectl("delete", "pod", "stubborn", "--wait=false")
	s.await("stubborn", "Terminating and not ready", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	s.says([]string{"get", "pod", "stubborn"}, "Terminating")
	s.awaitGone("stubborn")
	if took := time.Since(began); took < 2*time.Second {
		s.Errorf("gone after %v, with a grace period of 2 s", took)
	}

	forced := shellPod("forced", "trap '' TERM; while true; do sleep 0.05; done")
	grace := int64(600)
	forced.Spec.TerminationGracePeriodSeconds = &grace
	s.create(forced)
	s.awaitRunning("forced")
	s.says([]string{"delete", "pod", "forced", "--grace-period=0", "--force"}, "Immediate deletion does not wait")
	s.awaitGone("forced")

	// A second delete with a shorter grace counts.
	shorter := forced.DeepCopy()
	shorter.Name, shorter.ResourceVersion, shorter.UID = "shorter", "", ""
	s.create(shorter)
	s.awaitRunning("shorter")
	s.kubectl("delete", "pod", "shorter", "--wait=false")
	s.kubectl("delete", "pod", "shorter", "--grace-period=1")
	s.awaitGone("shorter")
}

func TestActiveDeadline(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("late", "exec sleep 3600")
	deadline := int64(1)
	pod.Spec.ActiveDeadlineSeconds = &deadline
	s.create(pod)
	got := s.awaitPhase("late", corev1.PodFailed)
	if got.Status.Reason != "DeadlineExceeded" || !strings.Contains(got.Status.Message, "Pod was active on the node longer than the specified deadline") {
		s.Error(describe(got))
	}
}

// An end by a signal, and by too much memory, is told by its code and reason.
func TestExitReasons(t *testing.T) {
	s := newSpace(t)
	for name, script := range map[string]string{
		"killed": "kill -9 $$$$", "oom": "tail /dev/zero",
	} {
		pod := shellPod(name, "sh -c '"+script+"' & wait $!; exit $?")
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		if name == "oom" {
			pod.Spec.Containers[0].Command = []string{"tail", "/dev/zero"}
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: mebibytes(16)}
		}
		s.create(pod)
	}
	for name, reason := range map[string]string{"killed": "Error", "oom": "OOMKilled"} {
		got := s.awaitPhase(name, corev1.PodFailed)
		if st := got.Status.ContainerStatuses[0].State.Terminated; st == nil || st.ExitCode != 137 || st.Reason != reason {
			s.Errorf("%s: %s", name, describe(got))
		}
	}
}

// Too much memory used by a child of the first process: the container lives on, an event tells at once, and in the end
// the status says so. The limit and the most that was used are where a user looks.
func TestOutOfMemory(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("child", "trap 'exit 3' TERM; dd if=/dev/zero of=/dev/null bs=64M count=1; while :; do sleep 0.1; done")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: mebibytes(16)}
	s.create(pod)
	again := shellPod("again", "")
	again.Spec.Containers[0].Command = []string{"tail", "/dev/zero"}
	again.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: mebibytes(16)}
	s.create(again)

	s.await("again", "started again after it was killed", func(p *corev1.Pod) bool {
		st := p.Status.ContainerStatuses
		if len(st) != 1 || st[0].RestartCount == 0 || st[0].LastTerminationState.Terminated == nil {
			return false
		}
		last := st[0].LastTerminationState.Terminated
		return last.Reason == "OOMKilled" && last.ExitCode == 137 &&
			strings.HasPrefix(last.Message, "the kernel killed the container for memory: limit 16Mi, peak ")
	})
	s.eventuallyEvent("again", "OOMKilled", "limit 16Mi, peak ")
	if groupsVersion(t, s.node) == cgroup.V2 {
		// There the kernel kills all of the container (memory.oom.group), as it does for Kubernetes.
		st := s.awaitPhase("child", corev1.PodFailed).Status.ContainerStatuses[0].State.Terminated
		if st == nil || st.Reason != "OOMKilled" || st.ExitCode != 137 {
			t.Errorf("the container whose child took too much: %+v", st)
		}
		return
	}
	s.eventuallyEvent("child", "OOMKilled", "the kernel killed 1 process of the container for memory: limit 16Mi, peak ")
	s.await("child", "alive after that", func(p *corev1.Pod) bool {
		return p.Status.ContainerStatuses[0].State.Running != nil && p.Status.ContainerStatuses[0].RestartCount == 0
	})
}

// An init container whose child took too much memory has failed, though it ends with code 0: a Pod that is never restarted
// has failed with it, and says why.
func TestInitContainerOutOfMemory(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("init", "exec sleep 3600")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.InitContainers = []corev1.Container{{
		Name: "greedy", Image: shellImage, Command: []string{"sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; exit 0"},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: mebibytes(16)}},
	}}
	s.create(pod)
	got := s.awaitPhase("init", corev1.PodFailed)
	want := int32(0)
	if groupsVersion(t, s.node) == cgroup.V2 {
		want = 137 // the kernel kills all of the container
	}
	if st := got.Status.InitContainerStatuses[0].State.Terminated; st == nil || st.Reason != "OOMKilled" || st.ExitCode != want || got.Status.InitContainerStatuses[0].Ready {
		s.Errorf("the init container: %s", describe(got))
	}
	if st := got.Status.ContainerStatuses[0].State; st.Running != nil || st.Terminated != nil {
		s.Errorf("the next container was started: %s", describe(got))
	}
	if out := s.kubectl("get", "pod", "init", "--no-headers"); !strings.Contains(out, "Init:OOMKilled") {
		s.Errorf("kubectl get says %q", out)
	}
}

// groupsVersion is the machine's version of cgroups.
func groupsVersion(t *testing.T, n *node) cgroup.Mode {
	t.Helper()
	tree, err := cgroup.New(n.paths.CgroupParent)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Mode()
}

// A program that is not there: the container is told to have failed to start, in the runtime's words.
func TestStartError(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("none", "")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers[0].Command = []string{"/no/such/program"}
	s.create(pod)
	got := s.awaitPhase("none", corev1.PodFailed)
	st := got.Status.ContainerStatuses[0].State.Terminated
	if st == nil || st.ExitCode != 128 || st.Reason != "StartError" || !strings.Contains(st.Message, "no such file or directory") {
		s.Error(describe(got))
	}
}
