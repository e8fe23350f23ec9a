package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/paths"
)

// The tests of this file are one story over three starts of a real machine, which test/vm tells: it runs TestMachineFirst,
// restarts the machine, runs TestMachineRestarted, cuts the power while TestMachineCut is at work, and starts the machine
// once more for TestMachineAfterCut. What outlives a start is on the machine's disk, in the folder that machineVariable
// names; a node of that root is all that the tests share.
const (
	machineVariable = "PODIUM_MACHINE"
	machineSpace    = "kept"
	// acknowledgedVariable holds how many writes were acknowledged before the power was cut.
	acknowledgedVariable = "PODIUM_ACKNOWLEDGED"
)

// machineNode is the node of the machine's disk, which is or is not started.
func machineNode(t *testing.T) *space {
	t.Helper()
	disk := os.Getenv(machineVariable)
	if disk == "" {
		t.Skip("a story of a machine's restarts, which test/vm tells")
	}
	began := time.Now()
	n := &node{paths: paths.For(filepath.Join(disk, "node")), bind: "127.0.0.1:7443"}
	start := n.connect
	if _, err := controlStatus(t.Context(), n.paths.ControlSocket); err != nil { // an earlier test of this start has not started it
		start = func() error { return errors.Join(n.furnish(), n.up()) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the node was Ready after %v", time.Since(began).Round(100*time.Millisecond))
	return &space{T: t, node: n, ns: machineSpace, ctx: t.Context(), uids: map[string]string{}}
}

// memory is what is known of the Pods at the end of a start.
type memory map[string]remembered

type remembered struct {
	UID      string
	ID       string // the first container's
	Restarts int32
}

func (s *space) memoryFile() string { return filepath.Join(os.Getenv(machineVariable), "memory.json") }

// remember writes down how these Pods are, once they are ready.
func (s *space) remember(names ...string) {
	s.Helper()
	m := memory{}
	for _, name := range names {
		p := s.awaitRunning(name)
		c := p.Status.ContainerStatuses[0]
		m[name] = remembered{UID: string(p.UID), ID: c.ContainerID, Restarts: c.RestartCount}
	}
	text, err := json.Marshal(m)
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(s.memoryFile(), text, 0o600); err != nil {
		s.Fatal(err)
	}
	f, err := os.Open(s.memoryFile())
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // it must outlive a power cut
		s.Fatal(err)
	}
}

// comeBack waits until the remembered Pods run again: the same Pods in new containers, restarted exactly once more.
func (s *space) comeBack() map[string]*corev1.Pod {
	s.Helper()
	var m memory
	text, err := os.ReadFile(s.memoryFile())
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		s.Fatal(err)
	}
	back := map[string]*corev1.Pod{}
	for name, was := range m {
		p := s.await(name, "back", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != was.ID
		})
		static := p.Annotations[corev1.MirrorPodAnnotationKey] != ""
		if got := p.Status.ContainerStatuses[0].RestartCount; got != was.Restarts+1 || !static && string(p.UID) != was.UID {
			s.Errorf("%s was %+v: UID %s, %s", name, was, p.UID, describe(p))
		}
		back[name] = p
	}
	return back
}

// TestMachineFirst makes Pods of every kind and leaves them to the machine's restart.
func TestMachineFirst(t *testing.T) {
	s := machineNode(t)
	if _, err := s.node.client.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	keeps := shellPod("keeps", "echo x >> /data/starts; exec sleep 3600")
	keeps.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	keeps.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	always := corev1.ContainerRestartPolicyAlways
	keeps.Spec.InitContainers = []corev1.Container{
		{Name: "init", Image: shellImage, Command: []string{"sh", "-c", "echo init"}},
		{Name: "side", Image: shellImage, Command: []string{"sh", "-c", "exec sleep 3600"}, RestartPolicy: &always},
	}
	s.create(keeps)
	done := shellPod("done", "echo done")
	done.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(done)
	once := shellPod("once", "exec sleep 3600")
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(once)
	s.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: webImage}}}})
	manifest := filepath.Join(s.node.paths.Manifests, "static.yaml")
	if err := os.WriteFile(manifest, []byte(s.staticManifest("static", "exec sleep 3600")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitPhase("done", corev1.PodSucceeded)
	s.awaitRunning("once")
	s.remember("keeps", "web", "static-"+s.node.name())
}

// TestMachineRestarted finds after a reboot every Pod as what it was, the static ones first.
func TestMachineRestarted(t *testing.T) {
	s := machineNode(t)
	back := s.comeBack()
	static := "static-" + s.node.name()
	began := func(name string) time.Time {
		return back[name].Status.ContainerStatuses[0].State.Running.StartedAt.Time
	}
	for _, other := range []string{"keeps", "web"} {
		if began(static).After(began(other)) {
			t.Errorf("the static Pod started at %v, %s before it, at %v", began(static), other, began(other))
		}
	}
	if p := s.awaitPhase("once", corev1.PodFailed); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error(describe(p))
	}
	if p := s.awaitPhase("done", corev1.PodSucceeded); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error(describe(p))
	}
	if out := s.kubectl("exec", "keeps", "-c", "c0", "--", "cat", "/data/starts"); out != "x\nx\n" {
		t.Errorf("in the emptyDir on disk: %q", out)
	}
	if body := get(s, "http://"+back["web"].Status.PodIP); !strings.Contains(body, "<html") {
		t.Errorf("the web server says %q", body)
	}
	s.remember("keeps", "web", static)
}

// TestMachineCut writes and makes Pods until the power is cut; the driver reads what was acknowledged.
func TestMachineCut(t *testing.T) {
	s := machineNode(t)
	for i := 1; i <= 10000; i++ {
		entry := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("entry-%d", i)}, Data: map[string]string{"n": strconv.Itoa(i)}}
		if _, err := s.node.client.CoreV1().ConfigMaps(s.ns).Create(s.ctx, entry, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if i%25 == 0 {
			s.create(shellPod(fmt.Sprintf("late-%d", i), "exec sleep 3600"))
		}
		if i == 60 {
			s.kubectl("delete", "pod", "late-25", "--wait=false")
		}
		fmt.Printf("acknowledged %d\n", i)
	}
	t.Error("the power was not cut")
}

// TestMachineAfterCut finds every write that was acknowledged and every Pod, and takes the node down with nothing left.
func TestMachineAfterCut(t *testing.T) {
	s := machineNode(t)
	last, err := strconv.Atoi(os.Getenv(acknowledgedVariable))
	if err != nil {
		t.Fatalf("%s: %v", acknowledgedVariable, err)
	}
	for i := 1; i <= last; i++ {
		entry, err := s.node.client.CoreV1().ConfigMaps(s.ns).Get(s.ctx, fmt.Sprintf("entry-%d", i), metav1.GetOptions{})
		if err != nil || entry.Data["n"] != strconv.Itoa(i) {
			t.Fatalf("of %d acknowledged writes, number %d: %v, %v", last, i, entry, err)
		}
	}
	s.comeBack()
	for i := 25; i <= last; i += 25 {
		name := fmt.Sprintf("late-%d", i)
		if i == 25 && last >= 60 {
			s.awaitGone(name)
			continue
		}
		s.awaitRunning(name)
	}
	s.create(shellPod("new", "exec sleep 3600"))
	s.awaitRunning("new")
	if err := s.node.down(); err != nil {
		t.Fatal(err)
	}
	for _, leak := range s.node.leaks() {
		t.Error("left on the machine:", leak)
	}
}
