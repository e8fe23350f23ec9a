package pod

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// asMap returns an object as its JSON says it.
func asMap(t *testing.T, obj any) (m map[string]any) {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBecomeLikeKubernetes(t *testing.T) {
	d := definitionForTest()
	var first any
	for _, tc := range readRecorded(t, "testdata/become.yaml") {
		t.Run(tc.Name, func(t *testing.T) {
			pod := patched(t, tc.Patch)
			d.Prepare(context.Background(), pod)
			want := mergePatch(first, map[string]any(tc.Becomes))
			if first == nil {
				first = want
			}
			// The wanted one goes through the type, which leaves out what is empty in both.
			typed := &corev1.Pod{}
			text, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, typed); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(asMap(t, typed), asMap(t, pod)); diff != "" {
				t.Errorf("-Kubernetes +Podium:\n%s", diff)
			}
		})
	}
}
