package kinds_test

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		t.Fatal(err)
	}
}

// TestDiscoveryLikeKubernetes compares the names, short names, categories and verbs of the resources.
func TestDiscoveryLikeKubernetes(t *testing.T) {
	var groups map[string][]map[string]any
	read(t, "testdata/discovery.yaml", &groups)
	server := serve(t)
	for path, resources := range groups {
		want := byName(resources)
		list := server.do(t, http.MethodGet, path, nil, asJSON).body["resources"].([]any)
		var ours []map[string]any
		for _, r := range list {
			resource := r.(map[string]any)
			delete(resource, "storageVersionHash")
			// The resources below Pods are compared where they are served.
			if name := resource["name"].(string); path != "/api/v1" || want[name] != nil || !strings.HasPrefix(name, "pods") && !strings.HasPrefix(name, "nodes/") {
				ours = append(ours, resource)
			}
		}
		if d := cmp.Diff(want, byName(ours)); d != "" {
			t.Errorf("%s (-Kubernetes +Podium):\n%s", path, d)
		}
	}
	t.Run("field selectors", func(t *testing.T) { selectors(t, server) })
}

func byName(resources []map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, r := range resources {
		out[r["name"].(string)] = r
	}
	return out
}

// selectors tries every field name that any kind can select by on every kind.
func selectors(t *testing.T, server *api) {
	var collections map[string]struct {
		Names []string
		Fault string
	}
	read(t, "testdata/selectors.yaml", &collections)
	names := sets.New[string]()
	for _, c := range collections {
		names.Insert(c.Names...)
	}
	for _, path := range slices.Sorted(maps.Keys(collections)) {
		want := collections[path]
		for name := range names.Clone().Insert("nope") {
			a := server.do(t, http.MethodGet, path+"?fieldSelector="+url.QueryEscape(name+"=true,metadata.name=no-such"), nil, asJSON)
			if known := slices.Contains(want.Names, name); known != (a.code == http.StatusOK) {
				t.Errorf("%s: field selector %s is known: %v, want %v", path, name, !known, known)
			}
			if fault := a.body["message"]; name == "nope" && fault != want.Fault {
				t.Errorf("%s: fault %q, want %q", path, fault, want.Fault)
			}
		}
	}
}
