package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/paths"
)

// smallNode starts a node whose root is on a file system of its own of so many MiB, with these settings.
func smallNode(t *testing.T, size int, settings string) *node {
	t.Helper()
	root := filepath.Join(t.TempDir(), "node")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatal(err)
	}
	file := paths.For(root).KubeletConfig
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(settingsHead+settings), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := startNode(root)
	t.Cleanup(func() {
		if _, err := n.halt(); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
		if err := os.Remove(root); err != nil {
			t.Error(err)
		}
		for _, leak := range n.leaks() {
			t.Error("left on the machine:", leak)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// halt is down, but leaves an empty root where it is.
func (n *node) halt() (string, error) {
	out, err := command(binary(), "down", "--root", n.paths.Root).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("podium down: %w\n%s", err, out)
	}
	return string(out), err
}

// withVolume gives the first container of the Pod a volume of its own at /data.
func withVolume(p *corev1.Pod, v corev1.EmptyDirVolumeSource) *corev1.Pod {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &v}})
	c := &p.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	return p
}

// fill is a script that writes so many MiB to a file and then does nothing.
func fill(path string, mebibytes int) string {
	return fmt.Sprintf("dd if=/dev/zero of=%s bs=1M count=%d; sync; exec sleep 3600", path, mebibytes)
}

func limitedTo(p *corev1.Pod, storage string) *corev1.Pod {
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(storage)}
	return p
}

// evicted waits for the Pod to be evicted, and answers with it; the message begins so.
func (s *space) evicted(name, message string) *corev1.Pod {
	s.Helper()
	p := s.awaitPhase(name, corev1.PodFailed)
	if p.Status.Reason != "Evicted" || !strings.HasPrefix(p.Status.Message, message) {
		s.Errorf("want %q: %s", message, describe(p))
	}
	s.eventuallyEvent(name, "Evicted", strings.TrimSpace(strings.TrimPrefix(p.Status.Message, "Pod was rejected: ")))
	return p
}

func podCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// pressed waits for a condition of the node to be as it should, and for its taint.
func (s *space) pressed(t corev1.NodeConditionType, status corev1.ConditionStatus, reason, message, taint string) {
	s.Helper()
	s.eventually(fmt.Sprintf("the node has %s %s", t, status), func() error {
		n := s.theNode()
		for _, c := range n.Status.Conditions {
			if c.Type == t && (c.Status != status || c.Reason != reason || c.Message != message) {
				return fmt.Errorf("it is %s: %s %q", c.Status, c.Reason, c.Message)
			}
		}
		has := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taint && t.Effect == corev1.TaintEffectNoSchedule })
		if has != (status == corev1.ConditionTrue) {
			return fmt.Errorf("its taints are %v", n.Spec.Taints)
		}
		return nil
	})
}

// Pods that keep more on disk than they may are ended, and no others.
func TestStorageLimits(t *testing.T) {
	s := newSpace(t)
	ten := resource.MustParse("10Mi")
	s.create(withVolume(shellPod("volume", fill("/data/file", 20)), corev1.EmptyDirVolumeSource{SizeLimit: &ten}))
	s.create(limitedTo(shellPod("layer", fill("/file", 20)), "10Mi"))
	s.create(limitedTo(withVolume(shellPod("whole", fill("/data/file", 20)), corev1.EmptyDirVolumeSource{}), "10Mi"))
	s.create(limitedTo(shellPod("logs", "i=0; while [ $i -lt 3000 ]; do echo 012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done; exec sleep 3600"), "256Ki"))
	s.create(limitedTo(withVolume(shellPod("within", fill("/data/file", 5)), corev1.EmptyDirVolumeSource{SizeLimit: &ten}), "10Mi"))
	memory := withVolume(shellPod("memory", "if dd if=/dev/zero of=/data/file bs=1M count=20; then echo too much; fi; exec sleep 3600"),
		corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &ten})
	s.create(memory)

	s.evicted("volume", `Usage of EmptyDir volume "data" exceeds the limit "10Mi". `)
	s.evicted("layer", "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
	s.evicted("whole", "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
	p := s.evicted("logs", "Pod ephemeral local storage usage exceeds the total limit of containers 256Ki. ")
	if c := podCondition(p, corev1.DisruptionTarget); c != nil {
		s.Errorf("it is told as a disruption: %+v", c)
	}
	two := limitedTo(shellPod("one", fill("/file", 20), "exec sleep 3600"), "10Mi")
	two.Spec.Containers[1].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
	s.create(two)
	s.evicted("one", `Container c0 exceeded its local ephemeral storage limit "10Mi". `)
	for _, name := range []string{"within", "memory"} {
		s.awaitRunning(name)
	}
	if out := s.kubectl("logs", "memory"); strings.Contains(out, "too much") {
		s.Errorf("a volume in memory takes more than its limit: %s", out)
	}
	s.says([]string{"get", "--raw", "/api/v1/nodes/" + s.node.name() + "/proxy/stats/summary"}, `"ephemeral-storage":{`, `"volume":[{`, `"name":"data"`, `"imageFs":{`, `"rlimit":{`)
}

// A disk that fills up: first goes what nobody uses, then the Pod that keeps most; the node says how it is, takes no
// Pods meanwhile, and recovers.
func TestDiskPressure(t *testing.T) {
	t.Parallel()
	n := smallNode(t, 640, `
evictionHard: {nodefs.available: 200Mi}
evictionPressureTransitionPeriod: 3s
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 1ms
`)
	s := newSpaceOn(t, n)
	done := shellPod("done", "echo done")
	done.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(done)
	s.create(shellPod("calm", "exec sleep 3600"))
	s.awaitRunning("calm")
	s.awaitPhase("done", corev1.PodSucceeded)
	s.says([]string{"logs", "done"}, "done")
	s.eventually("the image that nobody uses is there", func() error { return s.hasImage(webImage, true) })
	s.restart() // the node takes note of images when it starts

	s.create(withVolume(shellPod("hog", fill("/data/file", 400)), corev1.EmptyDirVolumeSource{}))
	p := s.evicted("hog", "The node was low on resource: ephemeral-storage. Threshold quantity: 200Mi, available: ")
	if c := podCondition(p, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionTrue || c.Reason != corev1.PodReasonTerminationByKubelet || c.Message != p.Status.Message {
		s.Errorf("DisruptionTarget: %+v", c)
	}
	s.nodeEvent("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage")
	s.nodeEvent("NodeHasDiskPressure")
	if err := s.hasImage(webImage, false); err != nil {
		s.Error(err)
	}
	s.refused([]string{"logs", "done"}, "unable to retrieve container logs")
	s.awaitPhase("done", corev1.PodSucceeded)
	s.pressed(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure", corev1.TaintNodeDiskPressure)
	if c := s.awaitRunning("calm"); c.Status.ContainerStatuses[0].RestartCount != 0 {
		s.Errorf("it was touched: %s", describe(c))
	}
}

// hasImage answers with an error unless the node's images have one, or have not.
func (s *space) hasImage(name string, want bool) error {
	out, err := s.tryPodium("image", "ls")
	if err == nil && strings.Contains(out, strings.TrimSuffix(name, ":1.14")) != want {
		err = fmt.Errorf("the images are\n%s", out)
	}
	return err
}

// Pods that take more memory together than they may: the one that takes most beyond its request goes, whatever
// others take within theirs; and nothing that requests nothing is taken in meanwhile.
func TestMemoryPressure(t *testing.T) {
	t.Parallel()
	whole := memoryOfMachine(t)
	n := configuredNode(t, fmt.Sprintf(`
evictionHard: {memory.available: 200Mi}
systemReserved: {memory: %dMi}
evictionPressureTransitionPeriod: 20s
`, whole-700))
	s := newSpaceOn(t, n)
	memory := corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
	keeper := withVolume(shellPod("keeper", fill("/data/file", 250)), memory)
	keeper.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("300Mi")}
	s.create(keeper)
	s.boundPods(700 << 20)
	s.create(shellPod("calm", "exec sleep 3600"))
	s.awaitRunning("keeper")
	s.awaitRunning("calm")
	s.create(withVolume(shellPod("hog", fill("/data/file", 350)), memory))
	p := s.evicted("hog", "The node was low on resource: memory. Threshold quantity: 200Mi, available: ")
	if !strings.Contains(p.Status.Message, " Container c0 was using ") || !strings.HasSuffix(p.Status.Message, ", request is 0, has larger consumption of memory. ") {
		s.Errorf("message %q", p.Status.Message)
	}
	s.pressed(corev1.NodeMemoryPressure, corev1.ConditionTrue, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available", corev1.TaintNodeMemoryPressure)
	late := shellPod("late", "exec sleep 3600")
	late.Spec.NodeName = n.name()
	s.create(late)
	s.evicted("late", "Pod was rejected: The node had condition: [MemoryPressure]. ")
	small := late.DeepCopy()
	small.Name = "small"
	small.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}
	s.create(small)
	s.awaitRunning("small")
	s.pressed(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available", corev1.TaintNodeMemoryPressure)
	for _, name := range []string{"keeper", "calm"} {
		if c := s.awaitRunning(name); c.Status.ContainerStatuses[0].RestartCount != 0 {
			s.Errorf("it was touched: %s", describe(c))
		}
	}
}

// boundPods bounds what all Pods of the node together may use of memory.
func (s *space) boundPods(bytes int) {
	s.Helper()
	s.eventually("the node's cgroup is bounded", func() error {
		for _, file := range []string{"/sys/fs/cgroup/memory/" + s.node.paths.ID + "/kubepods/memory.limit_in_bytes", "/sys/fs/cgroup/" + s.node.paths.ID + "/kubepods/memory.max"} {
			if _, err := os.Stat(file); err == nil {
				return os.WriteFile(file, []byte(fmt.Sprint(bytes)), 0)
			}
		}
		return fmt.Errorf("there is no cgroup of Pods")
	})
}

// memoryOfMachine is the machine's memory in MiB.
func memoryOfMachine(t *testing.T) int {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	return int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
}

// Process IDs that run out: the Pod with the most processes goes.
func TestPIDPressure(t *testing.T) {
	t.Parallel()
	n := configuredNode(t, fmt.Sprintf("evictionHard: {pid.available: %q}\n", fmt.Sprint(pidsLeft(t)-400)))
	s := newSpaceOn(t, n)
	s.create(shellPod("hog", "i=0; while [ $i -lt 1000 ]; do sleep 3600 & i=$((i+1)); done; wait"))
	s.evicted("hog", "The node was low on resource: pids. Threshold quantity: ")
	s.nodeEvent("NodeHasInsufficientPID")
}

// pidsLeft is how many more tasks the kernel would run.
func pidsLeft(t *testing.T) int {
	t.Helper()
	number := func(path string, field int) (n int) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		word := strings.Fields(string(text))[field]
		if _, err := fmt.Sscan(word[strings.Index(word, "/")+1:], &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	return min(number("/proc/sys/kernel/pid_max", 0), number("/proc/sys/kernel/threads-max", 0)) - number("/proc/loadavg", 3)
}
