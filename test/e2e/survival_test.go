package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/pidfd"
	"podium.dev/podium/test/registry"
)

// ownNode starts a node for this test alone; after the test nothing of it may be left.
func ownNode(t *testing.T) *node { t.Helper(); return ownNodeWith(t) }

// ownNodeWith is ownNode with more flags of up.
func ownNodeWith(t *testing.T, flags ...string) *node {
	t.Helper()
	return ownNodeAt(t, filepath.Join(t.TempDir(), "node"), flags...)
}

// ownNodeAt is ownNodeWith on a root of which a part may be there.
func ownNodeAt(t *testing.T, root string, flags ...string) *node {
	t.Helper()
	n, err := startNode(root, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.down(); err != nil {
			t.Error(err)
		}
		for _, leak := range n.leaks() {
			t.Error("left on the machine:", leak)
		}
	})
	return n
}

// kill ends the daemon as a power cut would, and waits until it is gone.
func (n *node) kill(t *testing.T) {
	t.Helper()
	pid := n.pid(t)
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	if err := unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if ended, err := pidfd.Await(handle, patience); err != nil || !ended {
		t.Fatalf("the daemon outlives SIGKILL (%v)", err)
	}
}

// The daemon dies without warning: what runs goes on, nothing is started twice, the logs have no gap, and
// what ended meanwhile is reported with its code and time.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(shellPod("steady", "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.02; done"))
	ends := shellPod("ends", "while [ ! -e /gate/open ]; do sleep 0.05; done; exit 5")
	ends.Spec.RestartPolicy = corev1.RestartPolicyNever
	gate := s.TempDir()
	ends.Spec.Volumes = []corev1.Volume{{Name: "gate", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: gate}}}}
	ends.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "gate", MountPath: "/gate"}}
	s.create(ends)
	before := s.awaitRunning("steady")
	s.awaitRunning("ends")

	n.kill(t)
	if err := os.WriteFile(filepath.Join(gate, "open"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	<-time.After(1500 * time.Millisecond) // long enough that the end is seen to be in the past, by seconds
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	after := s.awaitPhase("ends", corev1.PodFailed)
	st := after.Status.ContainerStatuses[0].State.Terminated
	if st == nil || st.ExitCode != 5 || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Fatalf("ended meanwhile: %s", describe(after))
	}
	if st.FinishedAt.Time.Before(ended.Add(-time.Second)) || !st.FinishedAt.Time.Before(back) {
		t.Errorf("it ended at %v, and is reported with %v", ended, st.FinishedAt)
	}
	steady := s.awaitRunning("steady")
	if got, want := steady.Status.ContainerStatuses[0], before.Status.ContainerStatuses[0]; got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		t.Errorf("the running container was touched: %s, then %s", want.ContainerID, got.ContainerID)
	}
	if steady.Status.PodIP != before.Status.PodIP {
		t.Errorf("the address changed from %s to %s", before.Status.PodIP, steady.Status.PodIP)
	}
	for i, line := range strings.Split(strings.TrimSpace(s.kubectl("logs", "steady")), "\n") {
		if line != fmt.Sprintf("tick %d", i+1) {
			t.Fatalf("line %d of the log is %q: there is a gap", i+1, line)
		}
	}
	if out := s.kubectl("exec", "steady", "--", "echo", "still here"); out != "still here\n" {
		t.Errorf("exec after the restart: %q", out)
	}
}

// The daemon is killed again and again while Pods start and end: each Pod comes to its end, none twice.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	record := s.TempDir()
	for round, after := range []time.Duration{5, 20, 45, 80, 130, 200} {
		name := fmt.Sprintf("p%d", round)
		pod := shellPod(name, "echo x >> /record/"+name+"; exec sleep 3600")
		pod.Spec.Volumes = []corev1.Volume{{Name: "record", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: record}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "record", MountPath: "/record"}}
		s.create(pod)
		if round > 0 {
			now := int64(1)
			if err := n.client.CoreV1().Pods(s.ns).Delete(t.Context(), fmt.Sprintf("p%d", round-1), metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(after * time.Millisecond)
		n.kill(t)
		if err := n.up(); err != nil {
			t.Fatal(err)
		}
		got := s.awaitRunning(name)
		if c := got.Status.ContainerStatuses[0]; c.RestartCount != 0 {
			t.Errorf("killed after %d ms: %s", after, describe(got))
		}
		s.eventually("the container has started", func() error {
			_, err := os.Stat(filepath.Join(record, name))
			return err
		})
		if b, err := os.ReadFile(filepath.Join(record, name)); err != nil || string(b) != "x\n" {
			t.Errorf("killed after %d ms: the container was started %d times (%v)", after, strings.Count(string(b), "x"), err)
		}
		if round > 0 {
			s.awaitGone(fmt.Sprintf("p%d", round-1))
		}
	}
}

// The daemon is killed in the middle of an image's pull, and of a Pod's deletion with its grace period running.
func TestDaemonKilledDuringPullAndDeletion(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	record := s.TempDir()
	server := registry.Start(t)
	server.Gate = make(chan struct{})
	ref := server.Put("slow", "1", smallImage(t, s.Name()))
	s.create(imagePod("pulled", ref))
	slow := withHostDir(shellPod("slow-to-go", "trap 'sleep 0.5; echo term >> /shared/term; exit 0' TERM; while true; do sleep 0.05; done"), record)
	grace := int64(30)
	slow.Spec.TerminationGracePeriodSeconds = &grace
	slow.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: execHook("echo pre >> /shared/pre; while [ ! -e /shared/go ]; do sleep 0.05; done")}
	s.create(slow)
	s.awaitRunning("slow-to-go")
	s.eventually("the pull is under way", func() error {
		if len(server.Requests("/blobs/")) == 0 {
			return errors.New("no layer is asked for")
		}
		return nil
	})
	s.kubectl("delete", "pod", "slow-to-go", "--wait=false")
	s.readText(filepath.Join(record, "pre"))

	n.kill(t)
	if err := os.WriteFile(filepath.Join(record, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	s.awaitGone("slow-to-go")
	if got := s.readText(filepath.Join(record, "term")); got != "term\n" {
		t.Errorf("the container was told to end: %q", got)
	}
	close(server.Gate)
	s.awaitMark("pulled", s.Name())
	if p := s.awaitRunning("pulled"); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error(describe(p))
	}
}

// Shim, pause and container killed from outside: each ends in Kubernetes' answer.
func TestProcessesKilled(t *testing.T) {
	s := newSpace(t)
	for _, victim := range []string{"container", "pause", "shim"} {
		name := "victim-of-" + victim
		s.create(shellPod(name, "exec sleep 3600"))
		before := s.awaitRunning(name)
		pid := pidOf(s, before, victim)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			s.Fatalf("kill the %s (%d): %v", victim, pid, err)
		}
		after := s.await(name, "running again", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
		if after.Status.ContainerStatuses[0].ContainerID == before.Status.ContainerStatuses[0].ContainerID {
			s.Errorf("%s killed: the container is the same", victim)
		}
		if last := after.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
			s.Errorf("%s killed: last state %+v", victim, last)
		}
	}
}

// pidOf finds a process of a Pod's by the kinship: the container's parent is the shim, once the program that
// started it has ended, and pause is another child of the shim.
func pidOf(s *space, pod *corev1.Pod, which string) (pid int) {
	s.Helper()
	id := pod.Status.ContainerStatuses[0].ContainerID
	id = id[strings.LastIndex(id, "/")+1:]
	s.eventually("container "+id+" is the child of a shim that has a pause", func() error {
		found := kin(processes(s), id)
		pid = found[which]
		if len(found) < 3 {
			return fmt.Errorf("found %v", found)
		}
		return nil
	})
	return pid
}

// kin answers with the processes around a container.
func kin(all map[int]process, id string) map[string]int {
	found := map[string]int{}
	for _, p := range all {
		parent := all[p.parent]
		if strings.Contains(p.cgroup, id) && parent.name == "podium-shim" {
			found["container"], found["shim"] = p.pid, p.parent
		}
	}
	for _, p := range all {
		if p.parent == found["shim"] && p.name == "pause" {
			found["pause"] = p.pid
		}
	}
	return found
}

type process struct {
	pid, parent  int
	name, cgroup string
}

// processes are all of the machine.
func processes(s *space) map[int]process {
	s.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		s.Fatal(err)
	}
	all := map[int]process{}
	for _, d := range dirs {
		var p process
		stat, err := os.ReadFile(filepath.Join(d, "stat"))
		if err != nil {
			continue // it has ended
		}
		open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')') // around the name
		var state string
		fmt.Sscan(string(stat[:open]), &p.pid)
		fmt.Sscan(string(stat[end+1:]), &state, &p.parent)
		p.name = string(stat[open+1 : end])
		if cgroup, err := os.ReadFile(filepath.Join(d, "cgroup")); err == nil {
			p.cgroup = string(cgroup)
		}
		all[p.pid] = p
	}
	return all
}

// A second up on a live root says so and changes nothing; SIGTERM leaves the Pods running; down leaves nothing.
func TestUpStopUpDown(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(shellPod("stays", "exec sleep 3600"))
	before := s.awaitRunning("stays")

	out, err := command(binary(), "up", "--root", n.paths.Root, "--bind", n.bind).CombinedOutput()
	if exit, ok := err.(interface{ ExitCode() int }); !ok || exit.ExitCode() != 4 || !strings.Contains(string(out), "already running") {
		t.Errorf("a second up: %v\n%s", err, out)
	}
	pid := n.pid(t)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.eventually("the daemon has stopped", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	found := false
	for _, p := range processes(s) {
		found = found || strings.Contains(p.cgroup, string(before.UID))
	}
	if !found {
		t.Error("the container ended with the daemon")
	}
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	after := s.awaitRunning("stays")
	if after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID {
		t.Error("the container was made anew")
	}
	if out, err := command(binary(), "--root", n.paths.Root, "kubeconfig").Output(); err != nil || strings.TrimSpace(string(out)) != n.paths.AdminKubeconfig {
		t.Errorf("podium kubeconfig: %q, %v", out, err)
	}
	if info, err := os.Stat(n.paths.AdminKubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig's mode: %v, %v", info, err)
	}
}

// down ends well though the daemon is killed at any moment while it is asked to stop: before, meanwhile and after.
func TestDownWhileTheDaemonDies(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	for i, after := range []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		if i > 0 {
			if err := n.furnish(); err != nil {
				t.Fatal(err)
			}
			if err := n.up(); err != nil {
				t.Fatal(err)
			}
		}
		daemon, err := os.FindProcess(n.pid(t))
		if err != nil {
			t.Fatal(err)
		}
		down := command(binary(), "down", "--root", n.paths.Root)
		var said bytes.Buffer
		down.Stdout, down.Stderr = &said, &said
		if err := down.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(after)
		_ = daemon.Kill() // it may have stopped already
		if err := down.Wait(); err != nil {
			t.Errorf("killed after %v: podium down: %v\n%s", after, err, said.String())
		}
	}
}

// After a down that keeps the root, the next up has the Pods run again, as after a reboot.
func TestDownAndUpAgain(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(shellPod("back", "exec sleep 3600"))
	before := s.awaitRunning("back")
	if out, err := command(binary(), "down", "--root", n.paths.Root).CombinedOutput(); err != nil {
		t.Fatalf("podium down: %v\n%s", err, out)
	}
	for _, leak := range n.leaks() {
		if !strings.HasPrefix(leak, "folder ") {
			t.Error("left on the machine after down:", leak)
		}
	}
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	after := s.await("back", "running again", func(p *corev1.Pod) bool {
		return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID
	})
	if after.UID != before.UID || after.Status.ContainerStatuses[0].RestartCount != 1 {
		t.Error(describe(after))
	}
}

// What the machine lacks is told in one line with the mend, before anything is touched.
func TestPreflight(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "node")
	out, err := command(binary(), "up", "--root", root, "--bind", shared.bind).CombinedOutput()
	if exit, ok := err.(interface{ ExitCode() int }); !ok || exit.ExitCode() != 3 || !strings.Contains(string(out), "is taken by another program; stop that program or give another port with --bind") {
		t.Errorf("up on a port in use: %v\n%s", err, out)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the root was made (%v)", err)
	}
}

// What the node life cycle controller said of a silent node is put right as soon as the node speaks again, not when its
// next report is due, five minutes later at most.
func TestNodeThatWasUnknownIsReadyAgain(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	nodes := n.client.CoreV1().Nodes()
	patch := []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."}]}}`)
	said, err := nodes.Patch(s.ctx, n.name(), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the node is Ready again", func() error {
		node, err := nodes.Get(s.ctx, n.name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return fmt.Errorf("it is %s: %s", c.Status, c.Reason)
			}
		}
		if node.ResourceVersion == said.ResourceVersion {
			return errors.New("nobody has written it")
		}
		return nil
	})
}
