package pod

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"podium.dev/podium/internal/registry/core/pod/change"
	"podium.dev/podium/internal/registry/kit"
)

const basePod = `{"metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"1"},"spec":{"containers":[{"name":"c","image":"i:1"}]}}`

// recorded is a case of a file in testdata: a question and what Kubernetes answered.
type recorded struct {
	Name       string
	Patch      map[string]any // create.yaml, become.yaml
	Becomes    map[string]any // become.yaml
	Via        string         // update.yaml
	Old        map[string]any
	Change     map[string]any
	Faults     []string
	Warnings   []string
	Generation int64
}

func readRecorded(t *testing.T, file string) (cases []recorded) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &cases); err != nil {
		t.Fatalf("parse %s: %v", file, err)
	}
	return cases
}

// mergePatch is RFC 7386.
func mergePatch(to, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out := map[string]any{}
	if m, ok := to.(map[string]any); ok {
		for k, v := range m {
			out[k] = v
		}
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = mergePatch(out[k], v)
		}
	}
	return out
}

// patched returns the base Pod after merge patches, as the API server would have decoded it.
func patched(t *testing.T, patches ...map[string]any) *corev1.Pod {
	t.Helper()
	var o any
	if err := json.Unmarshal([]byte(basePod), &o); err != nil {
		t.Fatal(err)
	}
	for _, p := range patches {
		o = mergePatch(o, p)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(text, pod); err != nil {
		t.Fatal(err)
	}
	definitionForTest().Default(pod)
	again := pod.DeepCopy()
	definitionForTest().Default(again)
	if d := cmp.Diff(pod, again); d != "" {
		t.Errorf("defaults change the Pod when they run again:\n%s", d)
	}
	return pod
}

func definitionForTest() kit.Definition[*corev1.Pod] {
	return definition(clocktesting.NewFakePassiveClock(now))
}

type warnings []string

// AddWarning implements warning.Recorder.
func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

// texts returns the faults as texts, in order. Some come from a map, and in Kubernetes in any order.
func texts(faults field.ErrorList) (out []string) {
	for _, f := range faults {
		out = append(out, f.Error())
	}
	slices.Sort(out)
	return out
}

func TestCreateLikeKubernetes(t *testing.T) {
	d := definitionForTest()
	for _, tc := range readRecorded(t, "testdata/create.yaml") {
		t.Run(tc.Name, func(t *testing.T) {
			pod := patched(t, tc.Patch)
			var said warnings
			ctx := warning.WithWarningRecorder(context.Background(), &said)
			d.Prepare(ctx, pod)
			faults := d.Validate(ctx, pod)
			if len(faults) == 0 {
				said = append(said, d.Warn(ctx, pod, nil)...)
			}
			slices.Sort(tc.Faults)
			if diff := cmp.Diff(tc.Faults, texts(faults)); diff != "" {
				t.Errorf("faults (-Kubernetes +Podium):\n%s", diff)
			}
			slices.Sort(tc.Warnings)
			slices.Sort(said)
			if diff := cmp.Diff(tc.Warnings, []string(said)); diff != "" {
				t.Errorf("warnings (-Kubernetes +Podium):\n%s", diff)
			}
		})
	}
}

func TestUpdateLikeKubernetes(t *testing.T) {
	d := definitionForTest()
	rules := map[string]kit.SubresourceRules[*corev1.Pod]{
		"update":    {PrepareUpdate: d.PrepareUpdate, ValidateUpdate: d.ValidateUpdate},
		"status":    *d.Status,
		"ephemeral": {PrepareUpdate: prepareEphemeralContainers, ValidateUpdate: validateUpdate(change.EphemeralContainers)},
		"resize":    {PrepareUpdate: prepareResize, ValidateUpdate: validateUpdate(change.Resize)},
	}
	for _, tc := range readRecorded(t, "testdata/update.yaml") {
		t.Run(tc.Via+"/"+tc.Name, func(t *testing.T) {
			old, pod := patched(t, tc.Old), patched(t, tc.Old, tc.Change)
			stored := old.DeepCopy()
			r := rules[tc.Via]
			r.PrepareUpdate(context.Background(), pod, old)
			faults := r.ValidateUpdate(context.Background(), pod, old)
			slices.Sort(tc.Faults)
			if diff := cmp.Diff(tc.Faults, texts(faults)); diff != "" {
				t.Errorf("faults (-Kubernetes +Podium):\n%s", diff)
			}
			if pod.Generation != tc.Generation {
				t.Errorf("generation is %d, want %d", pod.Generation, tc.Generation)
			}
			if diff := cmp.Diff(stored, old); diff != "" {
				t.Errorf("the stored Pod was changed:\n%s", diff)
			}
		})
	}
}
