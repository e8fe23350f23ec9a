package podspec

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestBounds(t *testing.T) {
	pod := func(s corev1.PodSpec) runtime.Object { return &corev1.Pod{Spec: s} }
	var deployment appsv1.Deployment
	deployment.Spec.Template.Spec.Containers = make([]corev1.Container, 10000)
	for name, tc := range map[string]struct {
		object runtime.Object
		want   string
	}{
		"as many as may be":  {pod(corev1.PodSpec{InitContainers: make([]corev1.Container, 56), Containers: make([]corev1.Container, 200)}), ""},
		"one more":           {pod(corev1.PodSpec{InitContainers: make([]corev1.Container, 57), Containers: make([]corev1.Container, 200)}), "spec.containers: Too many: 257: must have at most 256 items"},
		"init containers":    {pod(corev1.PodSpec{InitContainers: make([]corev1.Container, 257)}), "spec.initContainers: Too many: 257"},
		"a template":         {&deployment, "spec.template.spec.containers: Too many: 10000: must have at most 256 items"},
		"volumes":            {pod(corev1.PodSpec{Volumes: make([]corev1.Volume, 1025)}), "spec.volumes: Too many"},
		"tolerations":        {pod(corev1.PodSpec{Tolerations: make([]corev1.Toleration, 1025)}), "spec.tolerations: Too many"},
		"ports":              {pod(corev1.PodSpec{Containers: []corev1.Container{{Ports: make([]corev1.ContainerPort, 4097)}}}), "spec.containers.ports: Too many"},
		"another kind":       {&corev1.ConfigMap{}, ""},
		"spread constraints": {pod(corev1.PodSpec{TopologySpreadConstraints: make([]corev1.TopologySpreadConstraint, 257)}), "spec.topologySpreadConstraints: Too many"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if faults := Bounds(tc.object); len(faults) > 0 {
				got = faults.ToAggregate().Error()
			}
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, expected %q", got, tc.want)
			}
		})
	}
}
