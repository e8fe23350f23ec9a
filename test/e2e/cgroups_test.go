package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/cgroup"
)

// groupFiles reads files of the cgroups that the Pods of a node are in: a v1 controller's by its name, or v2's.
type groupFiles struct {
	*space
	tree *cgroup.Manager
}

func (g groupFiles) expect(group, controller, v1, v2, want string) {
	g.Helper()
	file := v1
	if g.tree.Mode() == cgroup.V2 {
		file = v2
	}
	data, err := os.ReadFile(filepath.Join(g.tree.Dir(group, controller), file))
	if got := strings.TrimSpace(string(data)); err != nil || got != want {
		g.Errorf("%s of %s is %q, want %q (%v)", file, group, got, want, err)
	}
}

// pick is the first for cgroup v1, the second for v2, whose values are others.
func (g groupFiles) pick(v1, v2 string) string {
	if g.tree.Mode() == cgroup.V2 {
		return v2
	}
	return v1
}

// A Pod of each class of service is where it belongs in the tree, with the limits of the Pod and of its containers.
func TestCgroupTree(t *testing.T) {
	s := newSpace(t)
	tree, err := cgroup.New(s.node.paths.CgroupParent)
	if err != nil {
		t.Fatal(err)
	}
	g := groupFiles{s, tree}
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	guaranteed := shellPod("guaranteed", "exec sleep 3600")
	guaranteed.Spec.Containers[0].Resources.Limits = list("100m", "32Mi")
	burstable := shellPod("burstable", "exec sleep 3600", "exec sleep 3600")
	burstable.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("100m", "16Mi"), Limits: list("200m", "64Mi")}
	burstable.Spec.Containers[1].Resources = corev1.ResourceRequirements{Requests: list("50m", "16Mi"), Limits: list("100m", "32Mi")}
	besteffort := shellPod("besteffort", "exec sleep 3600")
	levels := shellPod("levels", "exec sleep 3600", "exec sleep 3600")
	levels.Spec.Resources = &corev1.ResourceRequirements{Requests: list("100m", "32Mi"), Limits: list("200m", "128Mi")}
	group := map[string]string{}
	for level, pod := range map[string]*corev1.Pod{"": guaranteed, "burstable/": burstable, "besteffort/": besteffort, "burstable": levels} {
		made := s.create(pod)
		group[pod.Name] = "kubepods/" + strings.TrimSuffix(level, "/") + "/pod" + string(made.UID)
	}
	for name, class := range map[string]corev1.PodQOSClass{"guaranteed": "Guaranteed", "burstable": "Burstable", "besteffort": "BestEffort", "levels": "Burstable"} {
		if got := s.awaitRunning(name).Status.QOSClass; got != class {
			t.Errorf("%s is %s", name, got)
		}
	}
	inside := func(pod, container string) string {
		for _, c := range s.awaitRunning(pod).Status.ContainerStatuses {
			if c.Name == container {
				_, id, _ := strings.Cut(c.ContainerID, "://")
				return group[pod] + "/" + id
			}
		}
		t.Fatalf("Pod %s has no container %s", pod, container)
		return ""
	}
	memory := func(group, want string) {
		t.Helper()
		g.expect(group, "memory", "memory.limit_in_bytes", "memory.max", want)
	}
	quota := func(group string, micros int) {
		t.Helper()
		g.expect(group, "cpu", "cpu.cfs_quota_us", "cpu.max", g.pick(fmt.Sprint(micros), fmt.Sprint(micros, " 100000")))
	}
	shares := func(group, v1, v2 string) {
		t.Helper()
		g.expect(group, "cpu", "cpu.shares", "cpu.weight", g.pick(v1, v2))
	}
	const mi = 1 << 20
	memory(group["guaranteed"], fmt.Sprint(32*mi))
	quota(group["guaranteed"], 10000)
	shares(group["guaranteed"], "102", "4")
	memory(inside("guaranteed", "c0"), fmt.Sprint(32*mi))

	memory(group["burstable"], fmt.Sprint(96*mi))
	quota(group["burstable"], 30000)
	shares(group["burstable"], "153", "6")
	memory(inside("burstable", "c0"), fmt.Sprint(64*mi))
	memory(inside("burstable", "c1"), fmt.Sprint(32*mi))
	quota(inside("burstable", "c1"), 10000)
	shares(inside("burstable", "c1"), "51", "11")

	shares("kubepods/besteffort", "2", "1")
	shares(group["besteffort"], "2", "1")

	memory(group["levels"], fmt.Sprint(128*mi))
	quota(group["levels"], 20000)
	memory(inside("levels", "c1"), fmt.Sprint(128*mi))
	if tree.Mode() == cgroup.V2 {
		g.expect(inside("burstable", "c0"), "", "", "memory.oom.group", "1")
	}
	if out := s.kubectl("exec", "besteffort", "--", "cat", "/proc/1/oom_score_adj"); out != "1000\n" {
		t.Errorf("oom_score_adj of a best effort Pod is %q", out)
	}
}

// What the settings keep from the Pods is not theirs: neither in what the node tells the scheduler, nor in the cgroup of
// all Pods. A Pod has no more processes than the settings give it.
func TestReservations(t *testing.T) {
	t.Parallel()
	n := configuredNode(t, `
kubeReserved: {cpu: 500m, memory: 1Gi}
systemReserved: {memory: 512Mi}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%}
podPidsLimit: 64
`)
	s := newSpaceOn(t, n)
	tree, err := cgroup.New(n.paths.CgroupParent)
	if err != nil {
		t.Fatal(err)
	}
	g := groupFiles{s, tree}
	made := s.create(shellPod("many", "for i in $(seq 100); do sleep 3600 & done; wait"))
	st := s.theNode().Status
	capacity, allocatable := st.Capacity, st.Allocatable
	if left := capacity.Cpu().MilliValue() - allocatable.Cpu().MilliValue(); left != 500 {
		t.Errorf("%dm of cpu are kept back", left)
	}
	if left := capacity.Memory().Value() - allocatable.Memory().Value(); left != (1536+100)<<20 {
		t.Errorf("%d bytes of memory are kept back", left)
	}
	g.expect("kubepods", "memory", "memory.limit_in_bytes", "memory.max", fmt.Sprint((capacity.Memory().Value()-1536<<20)&^4095))
	s.nodeEvent("NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
	s.await("many", "out of processes", func(p *corev1.Pod) bool {
		st := p.Status.ContainerStatuses
		return len(st) == 1 && (st[0].RestartCount > 0 || st[0].State.Terminated != nil)
	})
	g.expect("kubepods/besteffort/pod"+string(made.UID), "pids", "pids.max", "pids.max", "64")
}
