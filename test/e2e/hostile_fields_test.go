package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A container puts a FIFO where the node reads: as environment file of the next container, and as its own termination
// message. No thread of the daemon waits for a writer that never comes.
func TestHostileFIFO(t *testing.T) {
	n := ownNode(t)
	s := newSpaceOn(t, n)
	threads := func() int {
		list, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(n.pid(t)), "task"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	pod := func(name string) *corev1.Pod {
		p := shellPod(name, "exit 3", "exec sleep 3600")
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.InitContainers = []corev1.Container{{
			Name: "trap", Image: shellImage, Command: []string{"sh", "-c", "mkfifo /v/fifo"},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
		}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/dev/termination-log", SubPath: "fifo"}}
		p.Spec.Containers[1].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
			FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "fifo", Key: "A"},
		}}}
		return p
	}
	const traps = 20
	before := 0
	for i := range traps {
		name := fmt.Sprintf("trap-%d", i)
		s.create(pod(name))
		p := s.await(name, "at an end with both", func(p *corev1.Pod) bool {
			if len(p.Status.ContainerStatuses) < 2 {
				return false
			}
			ended, waiting := p.Status.ContainerStatuses[0].State.Terminated, p.Status.ContainerStatuses[1].State.Waiting
			return ended != nil && waiting != nil && waiting.Reason == "CreateContainerConfigError"
		})
		if got := p.Status.ContainerStatuses[0].State.Terminated.Message; !strings.Contains(got, "not a regular file") {
			s.Errorf("the termination message: %q", got)
		}
		s.kubectl("delete", "pod", name, "--wait=false")
		if i == 0 {
			before = threads()
		}
	}
	// Each trap would keep two.
	if after := threads(); after > before+traps/2 {
		s.Errorf("the daemon has %d threads after %d traps, %d after the first", after, traps, before)
	}
}

// An option of the resolver that brings a line of its own is refused, with the field's name.
func TestHostileResolverOption(t *testing.T) {
	s := newSpace(t)
	s.refusedInput(`{apiVersion: v1, kind: Pod, metadata: {name: forger}, spec: {containers: [{name: c, image: x}],
		dnsConfig: {options: [{name: "edns0\nnameserver 6.6.6.6"}]}}}`, []string{"create", "-f", "-"}, "spec.dnsConfig.options[0]", "must be on one line")
}

// Claims of devices are refused until the API that they are claims of is served.
func TestResourceClaimsRefused(t *testing.T) {
	s := newSpace(t)
	s.refusedInput(`{apiVersion: v1, kind: Pod, metadata: {name: claims}, spec: {resourceClaims: [{name: gpu, resourceClaimName: none}],
		containers: [{name: c, image: x, resources: {claims: [{name: gpu}]}}]}}`, []string{"create", "-f", "-"}, "spec.resourceClaims", "resource.k8s.io")
}
