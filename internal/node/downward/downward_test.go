package downward

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestField(t *testing.T) {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Namespace: "ns", UID: "uid", Labels: map[string]string{"b": "2", "a": "1\n"}, Annotations: map[string]string{"example.com/K": "v"},
		},
		Spec: v1.PodSpec{NodeName: "node", ServiceAccountName: "sa"},
	}
	at := Addresses{HostIPs: []string{"10.0.0.1", "fd00::1"}, PodIPs: []string{"10.1.0.1", "fd01::1"}}
	for field, want := range map[string]string{
		"metadata.name":                         "p",
		"metadata.namespace":                    "ns",
		"metadata.uid":                          "uid",
		"metadata.labels":                       "a=\"1\\n\"\nb=\"2\"",
		"metadata.labels['b']":                  "2",
		"metadata.labels['none']":               "",
		"metadata.annotations['example.com/K']": "v",
		"spec.nodeName":                         "node",
		"spec.serviceAccountName":               "sa",
		"status.hostIP":                         "10.0.0.1",
		"status.hostIPs":                        "10.0.0.1,fd00::1",
		"status.podIP":                          "10.1.0.1",
		"status.podIPs":                         "10.1.0.1,fd01::1",
	} {
		got, err := Field(&v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field}, pod, at)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", field, got, err)
		}
	}
	for field, want := range map[string]string{
		"spec.none":           "field label not supported: spec.none",
		"status.phase":        "unsupported fieldPath: status.phase",
		"spec.x['y']":         "field label does not support subscript: spec.x['y']",
		"metadata.labels['']": "invalid key subscript in metadata.labels['']: name part must be non-empty;name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
	} {
		_, err := Field(&v1.ObjectFieldSelector{FieldPath: field}, pod, at)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", field, err)
		}
	}
	if got, err := Field(&v1.ObjectFieldSelector{FieldPath: "status.podIP"}, pod, Addresses{}); got != "" || err != nil {
		t.Errorf("unknown address: %q, %v", got, err)
	}
}

func TestResource(t *testing.T) {
	q := resource.MustParse
	pod := &v1.Pod{Spec: v1.PodSpec{
		Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{"cpu": q("250m"), "memory": q("64Mi"), "hugepages-2Mi": q("4Mi")},
			Limits:   v1.ResourceList{"cpu": q("1500m")},
		}}},
		InitContainers: []v1.Container{{Name: "i"}},
	}}
	allocatable := v1.ResourceList{"cpu": q("4"), "memory": q("8Gi"), "ephemeral-storage": q("10Gi")}
	podLevel := pod.DeepCopy()
	podLevel.Spec.Resources = &v1.ResourceRequirements{Limits: v1.ResourceList{"memory": q("1Gi")}}
	for _, tc := range []struct {
		name, container, resource, divisor string
		pod                                *v1.Pod
		want                               string
	}{
		{"rounded up", "", "limits.cpu", "", pod, "2"},
		{"in thousandths", "", "limits.cpu", "1m", pod, "1500"},
		{"request rounded up", "c", "requests.cpu", "1", pod, "1"},
		{"limit of the node", "c", "limits.memory", "1Mi", pod, "8192"},
		{"limit of the pod", "c", "limits.memory", "1Mi", podLevel, "1024"},
		{"storage", "i", "limits.ephemeral-storage", "1Gi", pod, "10"},
		{"no request", "i", "requests.memory", "", pod, "0"},
		{"huge pages", "c", "requests.hugepages-2Mi", "2Mi", pod, "2"},
		{"no huge pages", "c", "limits.hugepages-2Mi", "", pod, "0"},
	} {
		ref := &v1.ResourceFieldSelector{ContainerName: tc.container, Resource: tc.resource}
		if tc.divisor != "" {
			ref.Divisor = q(tc.divisor)
		}
		got, err := Resource(ref, tc.pod, &tc.pod.Spec.Containers[0], allocatable)
		if err != nil || got != tc.want {
			t.Errorf("%s: %s, %v", tc.name, got, err)
		}
	}
	for ref, want := range map[v1.ResourceFieldSelector]string{
		{ContainerName: "none", Resource: "limits.cpu"}: "container none not found",
		{Resource: "limits.gpu"}:                        "unsupported container resource : limits.gpu",
		{Resource: "cpu"}:                               "unsupported container resource : cpu",
	} {
		if _, err := Resource(&ref, pod, &pod.Spec.Containers[0], allocatable); err == nil || err.Error() != want {
			t.Errorf("%v: %v", ref, err)
		}
	}
}
