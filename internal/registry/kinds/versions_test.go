package kinds_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	autoscalersV1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
	autoscalersV2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
)

// fields parses JSON.
func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func TestBothVersionsOfAutoscalersAreOneObject(t *testing.T) {
	a := serve(t)
	t.Run("discovery prefers v2", func(t *testing.T) {
		group := a.do(t, http.MethodGet, "/apis/autoscaling", nil, asJSON).body
		want := fields(t, `{"groupVersion": "autoscaling/v2", "version": "v2"}`)
		if d := cmp.Diff([]any{want, fields(t, `{"groupVersion": "autoscaling/v1", "version": "v1"}`)}, group["versions"]); d != "" {
			t.Errorf("versions (-want +got):\n%s", d)
		}
		if d := cmp.Diff(any(want), group["preferredVersion"]); d != "" {
			t.Errorf("preferred version (-want +got):\n%s", d)
		}
	})
	t.Run("v1 is read as v2", func(t *testing.T) {
		created := a.do(t, http.MethodPost, autoscalersV1, fields(t, `{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "old"},
			"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 5}}`), asJSON)
		if created.code != http.StatusCreated {
			t.Fatalf("created: %d %v", created.code, created.body["message"])
		}
		want := fields(t, `{"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "minReplicas": 1, "maxReplicas": 5, "targetCPUUtilizationPercentage": 80}`)
		if d := cmp.Diff(any(want), created.body["spec"]); d != "" {
			t.Errorf("v1 (-want +got):\n%s", d)
		}
		delete(want, "targetCPUUtilizationPercentage")
		want["metrics"] = []any{fields(t, `{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}`)}
		if d := cmp.Diff(any(want), a.do(t, http.MethodGet, autoscalersV2+"/old", nil, asJSON).body["spec"]); d != "" {
			t.Errorf("v2 (-want +got):\n%s", d)
		}
	})
	t.Run("what v1 has no field for is in its annotations, and only there", func(t *testing.T) {
		created := a.do(t, http.MethodPost, autoscalersV2, fields(t, `{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
			"metadata": {"name": "new", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": "dropped", "a": "b"}},
			"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 5,
				"metrics": [
					{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
					{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}}],
				"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7, "tolerance": "0.2"}}}}`), asJSON)
		if d := cmp.Diff(any(map[string]any{"a": "b"}), created.body["metadata"].(map[string]any)["annotations"]); d != "" {
			t.Errorf("annotations of v2 (-want +got):\n%s", d)
		}
		old := a.do(t, http.MethodGet, autoscalersV1+"/new", nil, asJSON).body
		want := map[string]any{
			"a": "b",
			"autoscaling.alpha.kubernetes.io/metrics": `[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"5"}}]`,
			"autoscaling.alpha.kubernetes.io/behavior": `{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max",` +
				`"Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15},{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":null},` +
				`"ScaleDown":{"StabilizationWindowSeconds":7,"SelectPolicy":"Max","Policies":[{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":"200m"}}`,
		}
		if d := cmp.Diff(any(want), old["metadata"].(map[string]any)["annotations"]); d != "" {
			t.Errorf("annotations of v1 (-want +got):\n%s", d)
		}
		if percent := old["spec"].(map[string]any)["targetCPUUtilizationPercentage"]; percent != 50.0 {
			t.Errorf("target of v1 = %v", percent)
		}
		old["spec"].(map[string]any)["maxReplicas"] = 6
		if put := a.do(t, http.MethodPut, autoscalersV1+"/new", old, asJSON); put.code != http.StatusOK {
			t.Fatalf("updated: %d %v", put.code, put.body["message"])
		}
		spec := a.do(t, http.MethodGet, autoscalersV2+"/new", nil, asJSON).body["spec"].(map[string]any)
		before := created.body["spec"].(map[string]any)
		before["maxReplicas"] = 6.0
		metrics := before["metrics"].([]any)
		metrics[0], metrics[1] = metrics[1], metrics[0] // what v1 has a field for comes last
		if d := cmp.Diff(before, spec); d != "" {
			t.Errorf("after an update of v1 (-want +got):\n%s", d)
		}
	})
	t.Run("each version is applied, and its own fields are owned", func(t *testing.T) {
		applied := a.send(t, http.MethodPatch, autoscalersV1+"/applied?fieldManager=x", "apply-patch", fields(t, `{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
			"metadata": {"name": "applied"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 3, "targetCPUUtilizationPercentage": 40}}`), asJSON)
		if applied.code != http.StatusCreated {
			t.Fatalf("applied as v1: %d %v", applied.code, applied.body["message"])
		}
		other := a.send(t, http.MethodPatch, autoscalersV2+"/applied?fieldManager=y", "apply-patch", fields(t, `{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
			"metadata": {"name": "applied"}, "spec": {"maxReplicas": 4}}`), asJSON)
		if other.code != http.StatusConflict {
			t.Errorf("the field of another manager, applied as v2: %d %v", other.code, other.body["message"])
		}
		again := a.send(t, http.MethodPatch, autoscalersV1+"/applied?fieldManager=x", "apply-patch", fields(t, `{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
			"metadata": {"name": "applied"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 4, "targetCPUUtilizationPercentage": 40}}`), asJSON)
		if most := again.body["spec"].(map[string]any)["maxReplicas"]; again.code != http.StatusOK || most != 4.0 {
			t.Errorf("applied as v1 again: %d, maxReplicas %v", again.code, most)
		}
	})
	t.Run("faults have the paths of the stored version, as in Kubernetes", func(t *testing.T) {
		refused := a.do(t, http.MethodPost, autoscalersV1, fields(t, `{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "bad"},
			"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 5, "targetCPUUtilizationPercentage": 0}}`), asJSON)
		const want = `HorizontalPodAutoscaler.autoscaling "bad" is invalid: spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0`
		if refused.code != http.StatusUnprocessableEntity || refused.body["message"] != want {
			t.Errorf("%d %v", refused.code, refused.body["message"])
		}
	})
	t.Run("tables are the same", func(t *testing.T) {
		old, now := a.do(t, http.MethodGet, autoscalersV1+"/new", nil, asTable).body, a.do(t, http.MethodGet, autoscalersV2+"/new", nil, asTable).body
		if d := cmp.Diff(seen(now, ""), seen(old, "")); d != "" {
			t.Errorf("(-v2 +v1):\n%s", d)
		}
	})
}
