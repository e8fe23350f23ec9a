package namespace

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestConditions(t *testing.T) {
	now := time.Unix(10000, 0)
	status := &corev1.NamespaceStatus{}
	r := &remains{
		contentErrs: []error{errors.New("b"), errors.New("a")},
		objects:     map[schema.GroupVersionResource]int{podsGVR: 2, {Group: "apps", Version: "v1", Resource: "deployments"}: 1},
		finalizers:  map[string]int{"x/y": 3},
	}
	if !setConditions(status, r, now) {
		t.Fatal("nothing changed")
	}
	want := []string{
		"False ResourcesDiscovered: All resources successfully discovered",
		"False ParsedGroupVersions: All legacy kube types successfully parsed",
		"True ContentDeletionFailed: Failed to delete all resource types, 2 remaining: a, b",
		"True SomeResourcesRemain: Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances",
		"True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: x/y in 3 resource instances",
	}
	for i, c := range status.Conditions {
		if got := string(c.Status) + " " + c.Reason + ": " + c.Message; got != want[i] {
			t.Errorf("condition %d\n got %s\nwant %s", i, got, want[i])
		}
	}
	if setConditions(status, r, now.Add(time.Minute)) {
		t.Error("the same again is no change")
	}
	if !setConditions(status, &remains{}, now.Add(time.Minute)) {
		t.Error("the end of the troubles is a change")
	}
	if c := status.Conditions[4]; c.Reason != "ContentHasNoFinalizers" || !c.LastTransitionTime.Equal(&metav1.Time{Time: now.Add(time.Minute)}) {
		t.Errorf("at the end: %+v", c)
	}
}
