package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// noted is a script that writes the name of each signal that it gets into a file, and ends on it.
func noted(file string, signals ...string) string {
	script := ""
	for _, signal := range signals {
		script += fmt.Sprintf("trap 'echo %s >> /shared/%s; exit 0' %s; ", signal, file, signal)
	}
	return script + fmt.Sprintf("touch /shared/%s; while true; do sleep 0.05; done", file)
}

// A container is ended by the signal that its manifest names.
func TestStopSignal(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	pod := shellPod("signals", noted("usr1", "USR1", "TERM"), noted("term", "USR1", "TERM"))
	pod.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGUSR1)}
	s.create(withHostDir(pod, dir))
	s.readText(filepath.Join(dir, "usr1"))
	s.readText(filepath.Join(dir, "term"))
	if got := s.awaitRunning("signals").Status.ContainerStatuses[0].StopSignal; got == nil || *got != corev1.SIGUSR1 {
		s.Errorf("the status says that the signal is %v", got)
	}
	s.kubectl("delete", "pod", "signals")
	for file, want := range map[string]string{"usr1": "USR1\n", "term": "TERM\n"} {
		if got := s.readText(filepath.Join(dir, file)); got != want {
			s.Errorf("container %s got %q", file, got)
		}
	}
}

// A preStop handler has its time from the grace period; the container has two seconds more in any case.
func TestPreStopWithinGrace(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	pod := shellPod("slow", noted("order", "TERM"))
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: execHook("echo pre >> /shared/order; sleep 600")}
	s.create(withHostDir(pod, dir))
	s.awaitRunning("slow")
	began := time.Now()
	s.kubectl("delete", "pod", "slow")
	if got := s.readText(filepath.Join(dir, "order")); got != "pre\nTERM\n" {
		s.Errorf("the order was %q", got)
	}
	if took := time.Since(began); took < 2*time.Second {
		s.Errorf("gone after %v, with a grace period of 2 s that its handler takes", took)
	}

	// The other kinds of handlers, and one that fails: that is told, and the Pod ends all the same.
	others := shellPod("others", noted("sleeps", "TERM"), noted("fails", "TERM"), noted("asks", "TERM"))
	others.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
	server := httptest.NewServer(http.NotFoundHandler()) // what it answers is well
	s.Cleanup(server.Close)
	port := httpProbe(server.URL).HTTPGet.Port
	for i, h := range []*corev1.LifecycleHandler{
		{Sleep: &corev1.SleepAction{Seconds: 1}},
		{Exec: &corev1.ExecAction{Command: []string{"/no/such/program"}}},
		{TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1", Port: port}},
	} {
		others.Spec.Containers[i].Lifecycle = &corev1.Lifecycle{PreStop: h}
	}
	others.Spec.Containers[0].Lifecycle.PostStart = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Port: port}}
	s.create(withHostDir(others, dir))
	s.awaitRunning("others")
	for _, file := range []string{"sleeps", "fails", "asks"} {
		s.readText(filepath.Join(dir, file))
	}
	began = time.Now()
	s.kubectl("delete", "pod", "others")
	if took := time.Since(began); took < time.Second || took > 15*time.Second {
		s.Errorf("gone after %v, with a handler that sleeps for 1 s", took)
	}
	s.eventuallyEvent("others", "FailedPreStopHook", "PreStopHook failed")
	for _, file := range []string{"sleeps", "fails", "asks"} {
		if got := s.readText(filepath.Join(dir, file)); got != "TERM\n" {
			s.Errorf("container %s got %q", file, got)
		}
	}
}

// Sidecars run beside the containers, are restarted meanwhile, and end after them in reverse order; the Pod
// has then succeeded, however they ended.
func TestSidecarsEndLast(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	pod := shellPod("job", "while [ ! -e /shared/done ]; do sleep 0.05; done; echo app >> /shared/order")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
	for _, name := range []string{"first", "second"} {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{
			Name: name, Image: shellImage, RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
			Command: []string{"sh", "-c", "trap 'echo " + name + " >> /shared/order; exit 3' TERM; while [ ! -e /shared/crash-" + name + " ]; do sleep 0.05; done; rm /shared/crash-" + name + "; exit 1"},
		})
	}
	s.create(withHostDir(pod, dir))
	s.awaitRunning("job")
	if err := os.WriteFile(filepath.Join(dir, "crash-first"), nil, 0o600); err != nil {
		s.Fatal(err)
	}
	s.await("job", "running, its sidecar restarted", func(p *corev1.Pod) bool {
		return p.Status.InitContainerStatuses[0].RestartCount == 1 && isReady(p)
	})
	s.says([]string{"get", "pod", "job"}, "3/3", "1 (")
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o600); err != nil {
		s.Fatal(err)
	}
	s.awaitPhase("job", corev1.PodSucceeded)
	if got := s.readText(filepath.Join(dir, "order")); got != "app\nsecond\nfirst\n" {
		s.Errorf("they ended in the order %q", got)
	}
	s.says([]string{"get", "pod", "job"}, "0/3", "Completed")
}

// What a container itself says of its restarts counts for it, and of its exit codes before that.
func TestContainerRestartRules(t *testing.T) {
	s := newSpace(t)
	dir := s.TempDir()
	once := func(file string, code int) string {
		return fmt.Sprintf("[ -e /shared/%s ] && exit 0; touch /shared/%s; exit %d", file, file, code)
	}
	pod := shellPod("rules", once("rule", 42), once("other", 7), once("policy", 1))
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	for i, policy := range []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure} {
		pod.Spec.Containers[i].RestartPolicy = &policy
		if i < 2 {
			pod.Spec.Containers[i].RestartPolicyRules = []corev1.ContainerRestartRule{{
				Action:    corev1.ContainerRestartRuleActionRestart,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
			}}
		}
	}
	s.create(withHostDir(pod, dir))
	got := s.awaitPhase("rules", corev1.PodFailed)
	for i, want := range []struct{ restarts, code int32 }{{1, 0}, {0, 7}, {1, 0}} {
		c := got.Status.ContainerStatuses[i]
		if c.RestartCount != want.restarts || c.State.Terminated == nil || c.State.Terminated.ExitCode != want.code {
			s.Errorf("container %s: %s, want %+v", c.Name, describe(got), want)
		}
	}
}

// All processes of a container go with it, also where nothing in it cares for them.
func TestProcessTreeWithoutInit(t *testing.T) {
	s := newSpace(t)
	mark := fmt.Sprint(400000 + time.Now().UnixNano()%100000)
	s.create(shellPod("tree", "(sh -c 'sleep "+mark+"1 & exec sleep "+mark+"2') & setsid sleep "+mark+"3 & exec sleep "+mark+"4"))
	s.awaitRunning("tree")
	s.eventually("all processes run", func() error {
		if n := processesWith(mark); n < 4 {
			return fmt.Errorf("%d of 4", n)
		}
		return nil
	})
	s.kubectl("delete", "pod", "tree")
	s.eventually("no process is left", func() error {
		if n := processesWith(mark); n > 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// processesWith counts the machine's processes that sleep with an argument that begins so.
func processesWith(mark string) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("sleep\x00"+mark)) {
			n++
		}
	}
	return n
}

// A drained node takes no more Pods, keeps to disruption budgets, and does not delete what nobody makes anew
// unless it is told to.
func TestDrain(t *testing.T) {
	t.Parallel()
	n, err := startNode(filepath.Join(t.TempDir(), "node"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.down(); err != nil {
			t.Error(err)
		}
	})
	s := newSpaceOn(t, n)
	bare := shellPod("bare", "exec sleep 3600")
	bare.Labels = map[string]string{"app": "bare"}
	s.create(bare)
	local := shellPod("local", "exec sleep 3600")
	local.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	s.create(local)
	s.awaitRunning("bare")
	s.awaitRunning("local")
	s.refused([]string{"drain", n.name()}, "node/"+n.name()+" cordoned",
		"cannot delete Pods that declare no controller (use --force to override): "+s.ns+"/bare",
		"cannot delete Pods with local storage (use --delete-emptydir-data to override): "+s.ns+"/local")
	s.says([]string{"get", "node", n.name()}, "Ready,SchedulingDisabled")
	s.refused([]string{"drain", n.name(), "--force"}, "cannot delete Pods with local storage (use --delete-emptydir-data to override): "+s.ns+"/local")

	one := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "budget"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: bare.Labels}},
	}
	budgets := n.client.PolicyV1().PodDisruptionBudgets(s.ns)
	if _, err := budgets.Create(s.ctx, budget, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.refused([]string{"drain", n.name(), "--force", "--delete-emptydir-data", "--timeout=3s"},
		"Warning: deleting Pods that declare no controller: "+s.ns+"/bare, "+s.ns+"/local",
		`error when evicting pods/"bare" -n "`+s.ns+`" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.`)
	s.awaitGone("local")
	if err := budgets.Delete(s.ctx, "budget", metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
	s.says([]string{"drain", n.name(), "--force"}, "evicting pod "+s.ns+"/bare", "pod/bare evicted", "node/"+n.name()+" drained")
	s.awaitGone("bare")

	s.create(shellPod("later", "exec sleep 3600"))
	s.await("later", "held back", func(p *corev1.Pod) bool {
		return strings.Contains(conditionOf(p, corev1.PodScheduled).Message, "node(s) were unschedulable")
	})
	s.says([]string{"uncordon", n.name()}, "uncordoned")
	s.awaitRunning("later")
}
