package openapi

import (
	"testing"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

func TestPodIsDescribed(t *testing.T) {
	const pod = "io.k8s.api.core.v1.Pod"
	schemas, err := Schemas(pod, spec.Extensions{"x-test": true})
	if err != nil {
		t.Fatal(err)
	}
	if schemas[pod] == nil || schemas[pod].Extensions["x-test"] != true {
		t.Errorf("the Pod's own schema = %v", schemas[pod])
	}
	containers := schemas["io.k8s.api.core.v1.PodSpec"].Properties["containers"]
	if containers.Description == "" {
		t.Error("spec.containers has no description")
	}
	if got := containers.Extensions["x-kubernetes-list-map-keys"]; got == nil {
		t.Error("spec.containers does not say how it merges")
	}
}

func TestEveryReferenceLeadsSomewhere(t *testing.T) {
	all := Definitions(func(name string) spec.Ref { return spec.MustCreateRef(common.EscapeJsonPointer(name)) })
	for name, d := range all {
		for _, to := range d.Dependencies {
			if _, ok := all[to]; !ok {
				t.Errorf("%s refers to %s, which is not there", name, to)
			}
		}
	}
}

func BenchmarkPodSchemas(b *testing.B) {
	for b.Loop() {
		if _, err := Schemas("io.k8s.api.core.v1.Pod", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDefinitions(b *testing.B) {
	for b.Loop() {
		Definitions(func(name string) spec.Ref { return spec.Ref{} })
	}
}
