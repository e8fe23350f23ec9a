package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// stubborn is a Pod that does not end when it is asked to, with a container that asks for that much processor.
func stubborn(name, cpu string) *corev1.Pod {
	p := shellPod(name, "trap '' TERM; while true; do sleep 0.05; done")
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](0)
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	return p
}

// forceDelete takes a Pod out of the API at once.
func (s *space) forceDelete(name string) {
	s.Helper()
	err := s.node.client.CoreV1().Pods(s.ns).Delete(s.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	if err != nil && !apierrors.IsNotFound(err) {
		s.Fatal(err)
	}
}

// A Pod gets the room of one that was deleted by force, though that one does not end at once, and none is rejected; it
// is the same for processor time, for ports of the node and for the number of Pods.
func TestRoomOfForceDeletedPods(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	object, err := n.client.CoreV1().Nodes().Get(t.Context(), n.name(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	most := resource.NewMilliQuantity(object.Status.Allocatable.Cpu().MilliValue()*3/4, resource.DecimalSI).String()
	s.create(stubborn("a1", most))
	s.awaitRunning("a1")
	s.create(stubborn("a2", most)) // it waits at the scheduler
	s.await("a2", "unschedulable", func(p *corev1.Pod) bool { return len(p.Status.Conditions) > 0 })
	s.forceDelete("a1")
	s.awaitRunning("a2")

	// Each takes the place of one that was deleted by force before it had ended, or before it had begun.
	for i := 3; i < 12; i++ {
		s.forceDelete(fmt.Sprint("a", i-1))
		s.create(stubborn(fmt.Sprint("a", i), most))
	}
	s.awaitRunning("a11")
	s.forceDelete("a11")

	port := func(name string) *corev1.Pod {
		p := stubborn(name, "1m")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 47113}}
		return p
	}
	s.create(port("p1"))
	s.awaitRunning("p1")
	s.create(port("p2"))
	s.forceDelete("p1")
	s.awaitRunning("p2")
	s.noneRejected()
}

// podium why says what a Pod waits for that its node has not taken in: here a Pod that was deleted by force, whose shim
// is stopped so that it cannot end.
func TestWhyAPodWaitsForRoom(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	port := func(name string) *corev1.Pod {
		p := stubborn(name, "1m")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 47114}}
		return p
	}
	s.create(port("old"))
	shim := pidOf(s, s.awaitRunning("old"), "shim")
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := sync.OnceFunc(func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
	defer goOn()
	s.forceDelete("old")
	s.create(port("new"))
	s.eventually("podium why new", func() error {
		return s.why("new", "it has node "+n.name()+" and does not start", "WaitingForRoom", s.ns+"/old", "NodePorts", "fix: it starts by itself")
	})
	goOn()
	s.awaitRunning("new")
	if err := s.why("new", "WaitingForRoom"); err == nil {
		s.Error("it still says that the Pod waits")
	}
}

// noneRejected looks for Pods that the node has rejected.
func (s *space) noneRejected() {
	s.Helper()
	pods, err := s.node.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodFailed {
			s.Errorf("Pod %s: %s", p.Name, describe(&p))
		}
	}
}

// Pods that are deleted while they are being made leave nothing behind, by force or not.
func TestDeletedWhileBeingMade(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	for _, grace := range []int64{0, 1} {
		for i := range 40 {
			name := fmt.Sprintf("g%d-%d", grace, i)
			s.create(shellPod(name, "exec sleep 3600"))
			<-time.After(rand.N(20 * time.Millisecond)) // the moment is what is tested
			err := n.client.CoreV1().Pods(s.ns).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		}
	}
	s.eventually("nothing is left of the Pods", func() error {
		if left := n.pieces(); len(left) > 0 {
			return fmt.Errorf("%d pieces: %v", len(left), left[:min(len(left), 5)])
		}
		return nil
	})
	log, err := os.ReadFile(filepath.Join(n.paths.Root, "podium.log"))
	if err != nil {
		t.Fatal(err)
	}
	if found := strings.Count(string(log), "Found what is left of a pod"); found > 0 {
		t.Errorf("%d Pods were left to be found later", found)
	}
}

// pieces are what there is of Pods on the node.
func (n *node) pieces() (all []string) {
	for _, pattern := range []string{
		filepath.Join(n.paths.Runtime, "sandboxes", "*"), filepath.Join(n.paths.Runtime, "containers", "*"),
		filepath.Join(n.paths.Run, "sandboxes", "*"), filepath.Join(n.paths.Run, "containers", "*"), filepath.Join(n.paths.Run, "netns", "*"),
		filepath.Join(n.paths.Kubelet, "pods", "*"), filepath.Join(n.paths.PodLogs, "*"),
		"/sys/fs/cgroup/*/" + n.paths.ID + "/kubepods/*/pod*", "/sys/fs/cgroup/" + n.paths.ID + "/kubepods/*/pod*",
	} {
		found, _ := filepath.Glob(pattern)
		all = append(all, found...)
	}
	return all
}

// What belongs to no Pod is removed at the next quiet moment, and the log says so.
func TestLeftoversAreFound(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	for _, dir := range []string{filepath.Join(n.paths.Kubelet, "pods", "left-1", "volumes"), filepath.Join(n.paths.PodLogs, "ns_name_left-2")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	s.create(shellPod("goes", "exec sleep 3600"))
	s.awaitRunning("goes")
	s.forceDelete("goes")
	s.eventually("nothing is left", func() error {
		if left := n.pieces(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	log, err := os.ReadFile(filepath.Join(n.paths.Root, "podium.log"))
	if err != nil || !strings.Contains(string(log), "left-1") || !strings.Contains(string(log), "left-2") {
		t.Errorf("the log does not tell of it (%v)", err)
	}
}

// The status of Pods that have ended is not touched by later daemons, whatever way they ended.
func TestEndedPodsAreToldOnce(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	once := func(name, script string, change ...func(*corev1.Pod)) {
		p := shellPod(name, script)
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		for _, f := range change {
			f(p)
		}
		s.create(p)
	}
	once("rejected", "true", func(p *corev1.Pod) {
		p.Spec.NodeName = n.name()
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
	})
	once("succeeded", "exit 0")
	once("failed", "exit 3")
	once("late", "exec sleep 3600", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) })
	once("init", "exit 0", func(p *corev1.Pod) {
		first := *p.Spec.Containers[0].DeepCopy()
		first.Name, first.Command = "first", []string{"sh", "-c", "exit 4"}
		p.Spec.InitContainers = []corev1.Container{first}
	})
	names := []string{"rejected", "succeeded", "failed", "late", "init"}
	before := map[string]*corev1.Pod{}
	for _, name := range names {
		s.await(name, "ended", func(p *corev1.Pod) bool {
			return slices.Contains([]corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}, p.Status.Phase)
		})
	}
	s.eventually("nothing runs any more", func() error {
		if left, _ := filepath.Glob(filepath.Join(n.paths.Run, "netns", "*")); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	for _, name := range names {
		before[name] = s.get(name)
	}
	for range 2 {
		n.kill(t)
		if err := n.up(); err != nil {
			t.Fatal(err)
		}
		s.create(shellPod("after", "exec sleep 3600"))
		s.awaitRunning("after")
		s.forceDelete("after")
		for _, name := range names {
			if p := s.get(name); p.ResourceVersion != before[name].ResourceVersion {
				t.Errorf("Pod %s was told of again:\n%s\n%s", name, describe(before[name]), describe(p))
			}
		}
	}
}

// get reads a Pod.
func (s *space) get(name string) *corev1.Pod {
	s.Helper()
	p, err := s.node.client.CoreV1().Pods(s.ns).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return p
}

// A static Pod is edited faster than it ends: only the last edit runs, and nothing when the file is gone.
func TestStaticPodEditedFast(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	record := s.TempDir()
	write := func(version string) string {
		text := s.staticManifest("edited", "echo "+version+" >> /record/ran; trap 'sleep 1; exit 0' TERM; while true; do sleep 0.05; done")
		text = strings.Replace(text, "terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 10", 1)
		text = strings.Replace(text, "command:", "volumeMounts: [{name: record, mountPath: /record}], command:", 1)
		return s.drop("edited.yaml", text+"  volumes: [{name: record, hostPath: {path: "+record+"}}]\n")
	}
	ran := func() string {
		text, _ := os.ReadFile(filepath.Join(record, "ran"))
		return strings.ReplaceAll(string(text), "\n", " ")
	}
	await := func(want string) {
		s.eventually("ran: "+want, func() error {
			if got := ran(); got != want {
				return fmt.Errorf("%q ran", got)
			}
			return nil
		})
	}
	write("v1")
	await("v1 ")
	for _, version := range []string{"v2", "v3"} {
		write(version)
		s.await("edited-"+n.name(), "mirrored as "+version, func(p *corev1.Pod) bool {
			return strings.Contains(strings.Join(p.Spec.Containers[0].Command, " "), version)
		})
	}
	await("v1 v3 ")
	if err := os.Remove(write("v4")); err != nil {
		t.Fatal(err)
	}
	s.eventually("nothing runs", func() error {
		if left := n.pieces(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	if got := ran(); got != "v1 v3 " && got != "v1 v3 v4 " {
		t.Errorf("ran: %q", got)
	}
}
