package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// What Pods and the node use, with nothing installed for it.
func TestTop(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("busy", "while :; do :; done", "exec sleep 3600")
	pod.Labels = map[string]string{"app": "busy"}
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")}
	s.create(pod)
	s.create(shellPod("idle", "exec sleep 3600"))
	s.awaitRunning("busy")
	s.awaitRunning("idle")

	s.eventually("kubectl top tells how busy a container is", func() error {
		return s.uses([]string{"top", "pod", "busy", "--containers", "--no-headers"}, "busy c0", 20)
	})
	s.says([]string{"top", "pod", "busy", "--containers", "--no-headers"}, "c1")
	s.says([]string{"top", "pod"}, "NAME", "CPU(cores)", "MEMORY(bytes)", "busy", "idle")
	if out := s.kubectl("top", "pod", "-l", "app=busy"); strings.Contains(out, "idle") {
		s.Errorf("by label: %s", out)
	}
	s.says([]string{"top", "node"}, s.node.name(), "CPU(%)", "MEMORY(%)")
	s.says([]string{"get", "pods.metrics.k8s.io", "busy"}, "CPU", "MEMORY", "WINDOW")
	s.says([]string{"get", "--raw", "/api/v1/nodes/" + s.node.name() + "/proxy/metrics/resource"},
		"node_cpu_usage_seconds_total ", `container_memory_working_set_bytes{container="c0",namespace="`+s.ns+`",pod="busy"} `)
	s.says([]string{"get", "--raw", "/api/v1/nodes/" + s.node.name() + "/proxy/metrics/cadvisor"},
		`container_cpu_usage_seconds_total{container="c0",`, "machine_memory_bytes ")
	s.refused([]string{"top", "pod", "none"}, `pods "none" not found`)

	may := []string{"auth", "can-i", "list", "pods.metrics.k8s.io", "--as", "system:serviceaccount:" + s.ns + ":default"}
	s.refused(may, "no")
	s.kubectl("create", "rolebinding", "view", "--clusterrole=view", "--serviceaccount="+s.ns+":default")
	s.eventually("who may view may see what is used", func() error {
		_, err := s.try(may...)
		return err
	})
}

// uses is nil when a line of the command's output begins with the words and then has at least so many thousandths of a
// core.
func (s *space) uses(command []string, words string, least int) error {
	out, err := s.try(command...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		rest, ok := strings.CutPrefix(strings.Join(f, " "), words+" ")
		if !ok {
			continue
		}
		cpu, _, _ := strings.Cut(rest, "m ")
		if n, err := strconv.Atoi(cpu); err == nil && n >= least {
			return nil
		}
	}
	return fmt.Errorf("%q says:\n%s", command, out)
}
