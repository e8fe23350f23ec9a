package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A Pod grows and shrinks while it runs: its containers see the new limits at once and none is restarted.
func TestResize(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("sized", "exec sleep 3600", "exec sleep 3600")
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].Resources = amounts("50m", "32Mi")
	}
	s.create(pod)
	s.awaitRunning("sized")
	const quota = `cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max`
	for _, to := range []struct{ cpu, memory, quota string }{{"200m", "64Mi", "20000"}, {"20m", "24Mi", "2000"}, {"50m", "32Mi", "5000"}} {
		s.kubectl("patch", "pod", "sized", "--subresource", "resize", "-p", `{"spec":{"containers":[`+
			`{"name":"c0","resources":{"requests":{"cpu":"`+to.cpu+`","memory":"`+to.memory+`"},"limits":{"cpu":"`+to.cpu+`","memory":"`+to.memory+`"}}},`+
			`{"name":"c1","resources":{"requests":{"cpu":"`+to.cpu+`","memory":"`+to.memory+`"},"limits":{"cpu":"`+to.cpu+`","memory":"`+to.memory+`"}}}]}}`)
		want := amounts(to.cpu, to.memory)
		s.await("sized", "resized to "+to.cpu, func(p *corev1.Pod) bool {
			for _, c := range p.Status.ContainerStatuses {
				has := c.Resources
				if has == nil || c.RestartCount != 0 || !has.Limits.Cpu().Equal(*want.Limits.Cpu()) || !has.Limits.Memory().Equal(*want.Limits.Memory()) {
					return false
				}
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodResizeInProgress || c.Type == corev1.PodResizePending {
					return false
				}
			}
			return isReady(p)
		})
		if got := strings.TrimSpace(s.kubectl("exec", "sized", "-c", "c1", "--", "sh", "-c", quota)); got != to.quota {
			t.Errorf("with %s of processor the container's quota is %s, want %s", to.cpu, got, to.quota)
		}
	}
}

// amounts are processor and memory, requests as limits.
func amounts(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
}

// resize asks for other resources of one container.
func (s *space) resize(pod, container, resources string) {
	s.Helper()
	s.kubectl("patch", "pod", pod, "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"`+container+`","resources":`+resources+`}]}}`)
}

// A resize that restarts a container, one that waits for room, one that must not be, and one that cannot ever be: each
// says so in Kubernetes' words, and what runs goes on.
func TestResizeInItsWays(t *testing.T) {
	t.Parallel()
	s := newSpaceOn(t, ownNode(t))
	free := s.theNode().Status.Allocatable.Cpu().MilliValue()
	pod := shellPod("r", "trap 'exit 0' TERM; while :; do sleep 0.1; done", "head -c 20m /dev/zero > /dev/shm/x; trap 'exit 0' TERM; while :; do sleep 0.1; done")
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].Resources = amounts("100m", "64Mi")
	}
	pod.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	s.create(pod)
	s.awaitRunning("r")
	has := func(p *corev1.Pod, container int, name corev1.ResourceName, want string) bool {
		st := p.Status.ContainerStatuses
		if len(st) <= container || st[container].Resources == nil {
			return false
		}
		got := st[container].Resources.Limits[name]
		return got.Equal(resource.MustParse(want))
	}

	s.resize("r", "c0", `{"requests":{"memory":"96Mi"},"limits":{"memory":"96Mi"}}`)
	s.await("r", "restarted with more memory", func(p *corev1.Pod) bool {
		return has(p, 0, corev1.ResourceMemory, "96Mi") && p.Status.ContainerStatuses[0].RestartCount == 1 && isReady(p)
	})

	s.eventually("the second container has its memory in use", func() error {
		_, err := s.try("exec", "r", "-c", "c1", "--", "sh", "-c", "test $(stat -c %s /dev/shm/x) -ge 20000000")
		return err
	})
	s.resize("r", "c1", `{"requests":{"memory":"8Mi"},"limits":{"memory":"8Mi"}}`)
	s.await("r", "not shrunk below what it uses", func(p *corev1.Pod) bool {
		c := conditionOf(p, corev1.PodResizeInProgress)
		return c.Reason == corev1.PodReasonError && strings.Contains(c.Message, `memory limit (8388608) below current usage (`)
	})
	s.resize("r", "c1", `{"requests":{"memory":"64Mi"},"limits":{"memory":"64Mi"}}`)
	s.await("r", "as it was", func(p *corev1.Pod) bool {
		return conditionOf(p, corev1.PodResizeInProgress).Type == "" && has(p, 1, corev1.ResourceMemory, "64Mi")
	})

	filler := shellPod("filler", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
	most := resource.NewMilliQuantity(free-300, resource.DecimalSI)
	filler.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *most}
	s.create(filler)
	s.awaitRunning("filler")
	s.resize("r", "c1", `{"requests":{"cpu":"500m"},"limits":{"cpu":"500m"}}`)
	s.await("r", "waiting for room", func(p *corev1.Pod) bool {
		c := conditionOf(p, corev1.PodResizePending)
		return c.Reason == corev1.PodReasonDeferred && strings.HasPrefix(c.Message, "Node didn't have enough resource: cpu, requested: 600, used: ")
	})
	s.kubectl("delete", "pod", "filler")
	s.await("r", "resized when there is room", func(p *corev1.Pod) bool {
		return conditionOf(p, corev1.PodResizePending).Type == "" && has(p, 1, corev1.ResourceCPU, "500m") && p.Status.ContainerStatuses[1].RestartCount == 0
	})
	s.refused([]string{"patch", "pod", "r", "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"c1","resources":{"requests":{"cpu":"1k"},"limits":{"cpu":"1k"}}}]}}`},
		"didn't have enough allocatable resources: cpu, requested: 1000100, allocatable: ")
}
