package podutil

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func list(pairs ...string) v1.ResourceList {
	out := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(requests, limits v1.ResourceList) v1.Container {
	return v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func pod(containers ...v1.Container) *v1.Pod {
	return &v1.Pod{Spec: v1.PodSpec{Containers: containers}}
}

func TestClass(t *testing.T) {
	full := list("cpu", "1", "memory", "1Gi")
	guaranteed, nothing := container(full, full), container(nil, nil)
	withInit := pod(guaranteed)
	withInit.Spec.InitContainers = []v1.Container{nothing}
	podLevel := pod(nothing)
	podLevel.Spec.Resources = &v1.ResourceRequirements{Requests: full, Limits: full}
	for _, tc := range []struct {
		name string
		pod  *v1.Pod
		want v1.PodQOSClass
	}{
		{"guaranteed", pod(guaranteed, guaranteed), v1.PodQOSGuaranteed},
		{"no containers", pod(), v1.PodQOSBestEffort},
		{"nothing asked", pod(nothing, nothing), v1.PodQOSBestEffort},
		{"zero asked", pod(container(list("cpu", "0"), list("cpu", "0"))), v1.PodQOSBestEffort},
		{"other resources do not count", pod(container(list("ephemeral-storage", "1Gi"), nil)), v1.PodQOSBestEffort},
		{"request only", pod(container(list("cpu", "1"), nil)), v1.PodQOSBurstable},
		{"one resource only", pod(container(list("cpu", "1"), list("cpu", "1"))), v1.PodQOSBurstable},
		{"limit above request", pod(container(full, list("cpu", "2", "memory", "1Gi"))), v1.PodQOSBurstable},
		{"one of two", pod(guaranteed, nothing), v1.PodQOSBurstable},
		{"init container", withInit, v1.PodQOSBurstable},
		{"pod level", podLevel, v1.PodQOSGuaranteed},
	} {
		if got := QOSClassFromResources(tc.pod); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	stated := pod(guaranteed)
	stated.Status.QOSClass = v1.PodQOSBurstable
	if QOSClass(stated) != v1.PodQOSBurstable {
		t.Error("the status does not count")
	}
}
