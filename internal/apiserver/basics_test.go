package apiserver

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kinds"
)

var ctx = context.Background()

func TestWhatEveryClusterHas(t *testing.T) {
	c := start(t, t.TempDir())
	admin := c.client(pki.Admin)
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if _, err := admin.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"system-node-critical", "system-cluster-critical"} {
		if _, err := admin.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	service, err := admin.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != "10.96.0.1" {
		t.Errorf("service kubernetes = %v, %v", service.Spec, err)
	}
	slice, err := admin.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(slice.Endpoints) != 1 || slice.Endpoints[0].Addresses[0] != "192.0.2.1" {
		t.Errorf("slice kubernetes = %v, %v", slice, err)
	}
	version, err := admin.Discovery().ServerVersion()
	if err != nil || version.GitVersion != "v1.37.2" || version.Major != "1" || version.Minor != "37" {
		t.Errorf("version = %v, %v", version, err)
	}
	eventually(t, "readyz", func() error {
		_, err := admin.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	checks, err := admin.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx)
	for _, want := range []string{"[+]etcd ok", "[+]etcd-readiness ok", "[+]poststarthook/rbac/bootstrap-roles ok"} {
		if err != nil || !strings.Contains(string(checks), want) {
			t.Errorf("readyz has no %q: %s, %v", want, checks, err)
		}
	}
	metrics, err := admin.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil || !strings.Contains(string(metrics), "apiserver_request_total") {
		t.Errorf("metrics: %d bytes, %v", len(metrics), err)
	}
}

func TestNothingIsForgottenOverARestart(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	made, err := c.client(pki.Admin).CoreV1().ConfigMaps("default").Create(ctx, configMap("kept", "a", "b"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	again, err := start(t, dir).client(pki.Admin).CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{})
	if err != nil || again.UID != made.UID || again.ResourceVersion != made.ResourceVersion {
		t.Errorf("after the restart: %v, %v", again, err)
	}
}

func configMap(name, key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{key: value}}
}

func TestWrites(t *testing.T) {
	c := start(t, t.TempDir())
	maps := c.client(pki.Admin).CoreV1().ConfigMaps("default")
	made, err := maps.Create(ctx, configMap("c", "a", "1"), metav1.CreateOptions{FieldManager: "maker"})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != "maker" {
		t.Errorf("managed fields = %v", made.ManagedFields)
	}
	if _, err := maps.Create(ctx, configMap("c", "a", "1"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	for kind, p := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/data/json","value":"1"}]`,
		types.MergePatchType:          `{"data":{"merge":"1"}}`,
		types.StrategicMergePatchType: `{"data":{"strategic":"1"}}`,
		types.ApplyPatchType:          `{"apiVersion":"v1","kind":"ConfigMap","data":{"apply":"1"}}`,
	} {
		if _, err := maps.Patch(ctx, "c", kind, []byte(p), metav1.PatchOptions{FieldManager: "patcher"}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	got, err := maps.Get(ctx, "c", metav1.GetOptions{})
	if err != nil || len(got.Data) != 5 {
		t.Errorf("after the patches: %v, %v", got, err)
	}
	// Somebody else's field is not applied over without force.
	conflict := `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"2"}}`
	if _, err := maps.Patch(ctx, "c", types.ApplyPatchType, []byte(conflict), metav1.PatchOptions{FieldManager: "patcher"}); !apierrors.IsConflict(err) {
		t.Errorf("apply over maker's field: %v", err)
	}
	made.Data["a"] = "old"
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v", err)
	}
	if _, err := maps.Create(ctx, configMap("dry", "a", "1"), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Error(err)
	}
	if _, err := maps.Get(ctx, "dry", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run stored: %v", err)
	}
	other := types.UID("other")
	if err := maps.Delete(ctx, "c", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another uid: %v", err)
	}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if list, err := maps.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("after deletecollection: %v, %v", list, err)
	}
}

func TestFinalizersHoldAnObject(t *testing.T) {
	c := start(t, t.TempDir())
	maps := c.client(pki.Admin).CoreV1().ConfigMaps("default")
	held := configMap("held", "a", "1")
	held.Finalizers = []string{"example.com/hold"}
	if _, err := maps.Create(ctx, held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := maps.Get(ctx, "held", metav1.GetOptions{}); err != nil || got.DeletionTimestamp == nil {
		t.Errorf("while held: %v, %v", got, err)
	}
	if _, err := maps.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "held", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the release: %v", err)
	}
}

func TestWordsForBadRequests(t *testing.T) {
	c := start(t, t.TempDir())
	rest := c.client(pki.Admin).CoreV1().RESTClient()
	pod := func(extra string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"` + extra + `}]}}`
	}
	for name, q := range map[string]struct{ body, want string }{
		"unknown field": {pod(`,"resource":{}`), `strict decoding error: unknown field "spec.containers[0].resource"`},
		"wrong type":    {pod(`,"tty":"yes"`), "json: cannot unmarshal string into Go struct field Container.spec.containers.tty of type bool"},
		"twice":         {pod(`,"image":"j"`), `strict decoding error: duplicate field "spec.containers[0].image"`},
		"not JSON":      {`{`, "couldn't get version/kind; json parse error"},
		"too large":     {`{"data":{"a":"` + strings.Repeat("x", 4<<20) + `"}}`, "Request entity too large: limit is 3145728"},
	} {
		t.Run(name, func(t *testing.T) {
			err := rest.Post().AbsPath("/api/v1/namespaces/default/pods").Param("fieldValidation", "Strict").
				SetHeader("Content-Type", "application/json").Body([]byte(q.body)).Do(ctx).Error()
			if err == nil || !strings.Contains(err.Error(), q.want) {
				t.Errorf("error = %.300v, want %q", err, q.want)
			}
		})
	}
}

func TestEveryKindHasAStructureAndIsDescribed(t *testing.T) {
	c := start(t, t.TempDir())
	for _, k := range kinds.All() {
		all := []schema.GroupVersionKind{k.GVK}
		for _, a := range k.Also {
			all = append(all, a.GVK)
		}
		for _, gvk := range all {
			if _, err := c.server.types.(*typeConverter).converter(gvk); err != nil {
				t.Errorf("%s: %v", gvk, err)
			}
		}
	}
	admin := c.client(pki.Admin)
	doc, err := admin.Discovery().OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range doc.Definitions.AdditionalProperties {
		if strings.Contains(d.String(), "__internal") {
			t.Errorf("%s names the internal version", d.Name)
		}
	}
	paths, err := admin.Discovery().OpenAPIV3().Paths()
	if err != nil || paths["api/v1"] == nil || paths["apis/apps/v1"] == nil {
		t.Fatalf("OpenAPI v3 has %v, %v", paths, err)
	}
	data, err := paths["api/v1"].Schema("application/json")
	if err != nil {
		t.Fatal(err)
	}
	var v3 struct {
		Components struct {
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(data, &v3); err != nil || v3.Components.Schemas["io.k8s.api.core.v1.Pod"] == nil {
		t.Errorf("the document of core/v1 has no Pod: %v", err)
	}
	lists, err := admin.Discovery().ServerPreferredResources()
	if err != nil || len(lists) < 5 {
		t.Errorf("discovery: %v, %v", lists, err)
	}
}
