package kinds_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/registry/kit"
)

// TestNamesAreUnique requires that each name that kubectl accepts for a resource means one kind of the group.
func TestNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, k := range kinds.All() {
		resource := k.GroupResource().String()
		claim := func(what, name string) {
			key := what + " " + name
			if other, ok := seen[key]; ok {
				t.Errorf("%s is both %s and %s", key, other, resource)
			}
			seen[key] = resource
		}
		claim("resource", resource)
		claim("kind", k.GVK.String())
		if k.Singular == "" {
			t.Errorf("%s has no singular name", resource)
		}
		for _, short := range k.ShortNames {
			claim("short name", short)
		}
	}
}

// TestDefaultsAreIdempotent applies the defaults twice to each recorded object: they run on every read.
func TestDefaultsAreIdempotent(t *testing.T) {
	files, err := filepath.Glob("testdata/objects/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var r recorded
		read(t, file, &r)
		k, err := find(r.Object)
		if err != nil {
			continue // events in their other form
		}
		for _, c := range append(r.Create, change{}) {
			content := text(t, changed(t, r.Object, c.Change))
			obj := k.New()
			if err := yaml.Unmarshal(content, obj); err != nil || k.Default == nil {
				continue // a form that does not decode
			}
			k.Default(obj)
			again := obj.DeepCopyObject()
			k.Default(again)
			if d := cmp.Diff(asValue(t, obj), asValue(t, again)); d != "" {
				t.Errorf("%s %s: a second run of the defaults changes:\n%s", r.Name, text(t, c.Change), d)
			}
		}
	}
}

func asValue(t *testing.T, obj runtime.Object) (out map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal(text(t, obj), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func find(object map[string]any) (kit.Kind, error) {
	for _, k := range kinds.All() {
		version, kind := k.GVK.ToAPIVersionAndKind()
		if object["apiVersion"] == version && object["kind"] == kind {
			return k, nil
		}
	}
	return kit.Kind{}, fmt.Errorf("no kind %v %v", object["apiVersion"], object["kind"])
}

// TestCellsAreColumns requires that every row of every kind's table has a cell for each column.
func TestCellsAreColumns(t *testing.T) {
	files, err := filepath.Glob("testdata/objects/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t)
	for _, file := range files {
		var r recorded
		read(t, file, &r)
		server.do(t, http.MethodPost, r.Path, r.Object, asJSON)
		table := server.do(t, http.MethodGet, r.Path, nil, asTable).body
		columns := table["columnDefinitions"].([]any)
		for _, row := range table["rows"].([]any) {
			cells := row.(map[string]any)["cells"].([]any)
			if len(cells) != len(columns) {
				t.Errorf("%s: %d cells for %d columns: %v", r.Path, len(cells), len(columns), cells)
			}
		}
	}
}
