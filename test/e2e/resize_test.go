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
