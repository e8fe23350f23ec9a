package podspec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/podutil"
)

func TestPullPolicy(t *testing.T) {
	const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for image, want := range map[string]corev1.PullPolicy{
		"nginx": corev1.PullAlways, "nginx:latest": corev1.PullAlways, "nginx:1.27": corev1.PullIfNotPresent,
		"localhost:5000/nginx": corev1.PullAlways, "localhost:5000/nginx:1": corev1.PullIfNotPresent,
		"nginx" + digest: corev1.PullIfNotPresent, "nginx:latest" + digest: corev1.PullAlways, "a/b/c:latest": corev1.PullAlways,
		"": corev1.PullIfNotPresent, "No Image": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestContainers(t *testing.T) {
	s := &corev1.PodSpec{
		Containers:          []corev1.Container{{Name: "a"}, {Name: "b"}},
		InitContainers:      []corev1.Container{{Name: "i", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
	}
	if got, want := ContainerNames(s), []string{"i", "a", "b", "e"}; !slices.Equal(got, want) {
		t.Errorf("names are %v, want %v", got, want)
	}
	if !HasContainer(s, "e") || HasContainer(s, "x") || HasContainer(s, "") {
		t.Error("the wrong containers are there")
	}
	if !podutil.IsSidecar(&s.InitContainers[0]) || podutil.IsSidecar(&s.Containers[0]) || podutil.IsSidecar(nil) {
		t.Error("the wrong containers are sidecars")
	}
	AsContainer(&s.EphemeralContainers[0]).Image = "x"
	if s.EphemeralContainers[0].Image != "x" {
		t.Error("the container is a copy of the ephemeral one")
	}
}

func TestTemplatesAreNotCompleted(t *testing.T) {
	// What a container asks for follows from its limits, and the port of the host from its own, once there is a Pod.
	tmpl := template(t, `spec: {hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}]}`)
	c := tmpl.Spec.Containers[0]
	if len(c.Resources.Requests) > 0 || c.Ports[0].HostPort != 0 || tmpl.Spec.EnableServiceLinks != nil {
		t.Errorf("requests %v, port %v, links %v", c.Resources.Requests, c.Ports[0], tmpl.Spec.EnableServiceLinks)
	}
}
