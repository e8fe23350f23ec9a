package e2e

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A privileged init container sets a sysctl of the machine, as Elasticsearch, kube-proxy and most network plugins do,
// and finds nothing of the machine hidden or read-only; the container next to it finds both.
func TestPrivilegedInitContainer(t *testing.T) {
	s := newSpace(t)
	const file = "/proc/sys/vm/max_map_count"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0); err != nil {
			t.Error(err)
		}
	})
	p := shellPod("elastic", "cat "+file+"; sysctl -w vm.max_map_count=1 2>/dev/null || echo refused")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	yes := true
	p.Spec.InitContainers = []corev1.Container{{
		Name: "sysctl", Image: shellImage, SecurityContext: &corev1.SecurityContext{Privileged: &yes},
		Command: []string{"sh", "-c", "sysctl -w vm.max_map_count=262144; grep -cE ' (/proc/|/sys/firmware|/sys/devices)' /proc/self/mountinfo; grep -E ' /sys ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1; grep Seccomp: /proc/self/status"},
	}}
	s.create(p)
	s.awaitPhase("elastic", corev1.PodSucceeded)
	if got := s.kubectl("logs", "elastic", "-c", "sysctl"); got != "vm.max_map_count = 262144\n0\nrw\nSeccomp:\t0\n" {
		s.Errorf("the privileged init container found %q", got)
	}
	if got := s.kubectl("logs", "elastic", "-c", "c0"); got != "262144\nrefused\n" {
		s.Errorf("the container next to it found %q", strings.TrimSpace(got))
	}
}
