package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Every error a user meets says what is wrong, on what, and nothing is started.
func TestErrorsOfManifests(t *testing.T) {
	s := newSpace(t)
	const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec:\n"
	for name, tc := range map[string]struct {
		manifest string
		texts    []string
	}{
		"unknown field": {head + "  containers: [{name: a, image: b, resource: {}}]", []string{`unknown field "spec.containers[0].resource"`}},
		"wrong type":    {head + "  containers: [{name: a, image: b, tty: 3}]", []string{"spec.containers", "bool"}},
		"no containers": {head + "  restartPolicy: Never", []string{"spec.containers: Required value"}},
		"upper case":    {head + "  initContainers: [{name: init-myService, image: b}]\n  containers: [{name: a, image: b}]", []string{"spec.initContainers[0].name: Invalid value: \"init-myService\": a lowercase RFC 1123 label must consist of"}},
		"name twice":    {head + "  containers: [{name: a, image: b}, {name: a, image: c}]", []string{`spec.containers[1].name: Duplicate value: "a"`}},
		"port twice":    {head + "  containers: [{name: a, image: b, ports: [{name: p, containerPort: 1}, {name: p, containerPort: 2}]}]", []string{`spec.containers[0].ports[1].name: Duplicate value: "p"`}},
		"two at once":   {head + "  containers: [{name: A, image: ''}]", []string{"spec.containers[0].name: Invalid value", "spec.containers[0].image: Required value"}},
		"no YAML":       {"apiVersion: v1\nkind: [", []string{"yaml"}},
	} {
		s.Run(name, func(t *testing.T) {
			sub := *s
			sub.T = t
			sub.refusedInput(tc.manifest, []string{"create", "-f", "-"}, tc.texts...)
		})
	}
	if out := s.kubectl("get", "pods"); !strings.Contains(out, "No resources found") {
		s.Errorf("something was started:\n%s", out)
	}
}

func TestErrorsOfImages(t *testing.T) {
	s := newSpace(t)
	for name, tc := range map[string]struct {
		image  string
		policy corev1.PullPolicy
		reason []string
	}{
		"bad-name":    {"UPPER/Case::x", "", []string{"InvalidImageName"}},
		"not-here":    {"podium.local/no/such:1", corev1.PullNever, []string{"ErrImageNeverPull"}},
		"no-registry": {"127.0.0.1:1/no/such:1", "", []string{"ErrImagePull", "ImagePullBackOff"}},
	} {
		pod := shellPod(name, "true")
		pod.Spec.Containers[0].Image, pod.Spec.Containers[0].ImagePullPolicy = tc.image, tc.policy
		s.create(pod)
		s.await(name, strings.Join(tc.reason, " or "), func(p *corev1.Pod) bool {
			if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
				return false
			}
			for _, r := range tc.reason {
				if p.Status.ContainerStatuses[0].State.Waiting.Reason == r {
					return true
				}
			}
			return false
		})
	}
	s.refused([]string{"logs", "no-registry"}, `container "c0" in pod "no-registry" is waiting to start: `, "pull")
	s.refused([]string{"exec", "no-registry", "--", "true"}, `container not found ("c0")`)
}

func TestErrorsOfVerbs(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("two", "sleep 3600", "sleep 3600"))
	s.awaitRunning("two")
	s.refused([]string{"logs", "two", "-c", "nope"}, "container nope is not valid for pod two")
	s.refused([]string{"run", "two", "--image=" + shellImage}, `pods "two" already exists`)
	s.refused([]string{"patch", "pod", "two", "-p", `{"spec":{"nodeName":"elsewhere"}}`}, "pod updates may not change fields other than")
	s.refused([]string{"get", "pod", "none"}, `Error from server (NotFound): pods "none" not found`)
	s.refused([]string{"get", "pods", "--as=jane"}, `pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "`+s.ns+`"`)

	big := filepath.Join(s.TempDir(), "big.yaml")
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n  a: " + strings.Repeat("x", 3<<20) + "\n"
	if err := os.WriteFile(big, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	if out, err := s.try("create", "-f", big); err == nil || !strings.Contains(out, "Request entity too large: limit is 3145728") {
		s.Errorf("3 MB: %v, %.300s", err, out)
	}

	done := shellPod("done", "exit 0")
	done.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(done)
	s.awaitPhase("done", corev1.PodSucceeded)
	s.refused([]string{"exec", "done", "--", "true"}, "cannot exec into a container in a completed pod; current phase is Succeeded")
	s.refused([]string{"attach", "done"}, "cannot attach a container in a completed pod; current phase is Succeeded")
	s.refused([]string{"logs", "none"}, `pods "none" not found`)
	s.refused([]string{"logs", "two", "-c", "c0", "-p"}, `previous terminated container "c0" in pod "two" not found`)
}

// A Pod that would change a setting of the kernel that is not safe is not run, and its status says so.
func TestForbiddenSysctl(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("unsafe", "sleep 3600")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "1"}, {Name: "kernel.msgmax", Value: "9000"}}}
	s.create(pod)
	refused := s.awaitPhase("unsafe", corev1.PodFailed)
	if refused.Status.Reason != "SysctlForbidden" || refused.Status.Message != `Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted` {
		t.Errorf("refused with %s: %s", refused.Status.Reason, refused.Status.Message)
	}
	s.eventuallyEvent("unsafe", "SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`)
}

// A container that cannot be made, for its image volume has no such folder, was never started: no restart is counted,
// and the reason is that of a container that could not be made.
func TestMissingFolderOfAnImageVolume(t *testing.T) {
	s := newSpace(t)
	p := shellPod("reader", "exec sleep 3600")
	p.Spec.Volumes = []corev1.Volume{{Name: "image", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: shellImage}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "image", MountPath: "/image", SubPath: "no/such"}}
	s.create(p)
	got := s.await("reader", "refused", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerError"
	})
	c := got.Status.ContainerStatuses[0]
	if c.RestartCount != 0 || c.LastTerminationState.Terminated != nil || c.ContainerID != "" ||
		!strings.Contains(c.State.Waiting.Message, `image volume subpath "no/such" is not a folder of the image`) {
		t.Errorf("status %+v", c)
	}
}
