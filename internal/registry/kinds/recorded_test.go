package kinds_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// recorded is a file in testdata/objects: an object, Kubernetes' responses to dry-run creates and updates of it
// and of changed forms of it, and its form as a table.
type recorded struct {
	Name, Path string
	Object     map[string]any
	// Status is set before an update of the status. Without it the object already has one.
	Status map[string]any
	// Becomes is the object after its creation.
	Becomes                      map[string]any
	Create, Update, UpdateStatus []change
	Table                        struct {
		Columns []map[string]any
		Cells   []any
	}
}

// change is a changed form of the object and the response to it.
type change struct {
	// Change sets fields by their paths, such as "spec.ports.0.name". A null value removes the field.
	Change map[string]any
	// Code is 0 for success.
	Code     int
	Faults   []string
	Message  string
	Warnings []string
	// Becomes is the difference between the response and the created object, as a merge patch.
	Becomes map[string]any
}

func TestLikeKubernetes(t *testing.T) {
	files, err := filepath.Glob("testdata/objects/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded answers: %v", err)
	}
	server := serve(t)
	t.Run("kinds", func(t *testing.T) {
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				t.Parallel()
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				var r recorded
				if err := yaml.UnmarshalStrict(content, &r); err != nil {
					t.Fatal(err)
				}
				r.replay(t, server)
			})
		}
	})
}

func (r *recorded) replay(t *testing.T, server *api) {
	const dry = "?dryRun=All&fieldValidation=Strict"
	one := r.Path + "/" + url.PathEscape(r.Name)
	for _, c := range r.Create {
		object := changed(t, r.Object, c.Change)
		r.compare(t, "create", c, server.do(t, http.MethodPost, r.Path+dry, object, asJSON), string(text(t, object)))
	}
	made := server.do(t, http.MethodPost, r.Path, r.Object, asJSON)
	if d := cmp.Diff(r.Becomes, clean(made.body, string(text(t, r.Object)))); d != "" {
		t.Fatalf("created (-Kubernetes +Podium):\n%s", d)
	}
	stored := server.do(t, http.MethodGet, one, nil, asJSON).body
	status := r.Status
	if status == nil {
		status, _ = r.Object["status"].(map[string]any)
	}
	request := string(text(t, r.Object)) + string(text(t, status))
	for _, c := range r.Update {
		object := changed(t, stored, c.Change)
		r.compare(t, "update", c, server.do(t, http.MethodPut, one+dry, object, asJSON), request+string(text(t, c.Change)))
	}
	withStatus := stored
	if r.Status != nil {
		withStatus = changed(t, stored, map[string]any{"status": r.Status})
	}
	for _, c := range r.UpdateStatus {
		object := changed(t, withStatus, c.Change)
		r.compare(t, "update of the status", c, server.do(t, http.MethodPut, one+"/status"+dry, object, asJSON), request+string(text(t, c.Change)))
	}
	if len(r.UpdateStatus) > 0 {
		server.do(t, http.MethodPut, one+"/status", withStatus, asJSON)
	}
	r.compareTable(t, server.do(t, http.MethodGet, one, nil, asTable).body, request)
}

func (r *recorded) compare(t *testing.T, what string, want change, a answer, request string) {
	t.Helper()
	got := change{Change: want.Change, Warnings: a.warnings}
	if a.code >= http.StatusBadRequest {
		got.Code = a.code
		details, _ := a.body["details"].(map[string]any)
		causes, _ := details["causes"].([]any)
		for _, c := range causes {
			cause := c.(map[string]any)
			field, _ := cause["field"].(string)
			got.Faults = append(got.Faults, fmt.Sprintf("%s: %v", field, clean(cause["message"], request)))
		}
		slices.Sort(got.Faults) // some come from a map, in any order
		if len(causes) == 0 {
			got.Message, _ = clean(a.body["message"], request).(string)
		}
	} else {
		got.Becomes, _ = difference(r.Becomes, clean(a.body, request)).(map[string]any)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s %s (-Kubernetes +Podium):\n%s", what, text(t, want.Change), d)
	}
}

var age = regexp.MustCompile(`^\d+[smhdy][0-9smhdy]*$`)

func (r *recorded) compareTable(t *testing.T, table map[string]any, request string) {
	t.Helper()
	var columns []map[string]any
	for _, c := range table["columnDefinitions"].([]any) {
		column := c.(map[string]any)
		maps.DeleteFunc(column, func(_ string, v any) bool { return v == "" || v == 0.0 })
		columns = append(columns, column)
	}
	if d := cmp.Diff(r.Table.Columns, columns); d != "" {
		t.Errorf("columns (-Kubernetes +Podium):\n%s", d)
	}
	cells := ageless(clean(table["rows"].([]any)[0].(map[string]any)["cells"], request).([]any))
	if d := cmp.Diff(r.Table.Cells, cells); d != "" {
		t.Errorf("cells (-Kubernetes +Podium):\n%s", d)
	}
}

// changed returns a copy of an object with fields, named by their paths, set or removed.
func changed(t *testing.T, object map[string]any, change map[string]any) map[string]any {
	t.Helper()
	var out any
	if err := yaml.Unmarshal(text(t, object), &out); err != nil {
		t.Fatal(err)
	}
	for path, value := range change {
		out = set(t, out, strings.Split(path, "."), value)
	}
	m := out.(map[string]any)
	if meta, ok := m["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
	}
	return m
}

func set(t *testing.T, in any, path []string, value any) any {
	t.Helper()
	if len(path) == 0 {
		return value
	}
	if list, ok := in.([]any); ok {
		i, err := strconv.Atoi(path[0])
		if err != nil {
			t.Fatal(err)
		}
		if list[i] = set(t, list[i], path[1:], value); list[i] == nil {
			return slices.Delete(list, i, i+1)
		}
		return list
	}
	m, ok := in.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	if m[path[0]] = set(t, m[path[0]], path[1:], value); m[path[0]] == nil {
		delete(m, path[0])
	}
	return m
}

// difference returns the merge patch that turns a into b.
func difference(a, b any) any {
	old, isOld := a.(map[string]any)
	now, isNow := b.(map[string]any)
	if !isOld || !isNow {
		return b
	}
	var patch map[string]any
	put := func(key string, v any) {
		if patch == nil {
			patch = map[string]any{}
		}
		patch[key] = v
	}
	for key, v := range now {
		if was, ok := old[key]; !ok {
			put(key, v)
		} else if !cmp.Equal(was, v) {
			put(key, difference(was, v))
		}
	}
	for key := range old {
		if _, ok := now[key]; !ok {
			put(key, nil)
		}
	}
	if patch == nil {
		return nil
	}
	return patch
}

// chance are the texts that differ between runs, and the words that stand for them in the recorded responses
// unless they were in the request.
var chance = []struct {
	pattern *regexp.Regexp
	words   string
}{
	{regexp.MustCompile(`10\.96\.\d+\.\d+`), "IP"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`X509SHA256=[0-9a-f]+`), "CRED"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`([-_])[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "${1}XXXXX"},
}

// protection are finalizers of volumes that an admission plugin sets, which this server does not have.
var protection = map[any]bool{"kubernetes.io/pv-protection": true, "kubernetes.io/pvc-protection": true}

// clean removes from a response what differs between runs.
func clean(v any, request string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			switch key {
			case "uid", "creationTimestamp", "resourceVersion", "managedFields":
			case "finalizers":
				list, ok := value.([]any)
				if !ok {
					out[key] = clean(value, request)
				} else if list = slices.DeleteFunc(list, func(f any) bool { return protection[f] }); len(list) > 0 {
					out[key] = list
				}
			default:
				out[key] = clean(value, request)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			out = append(out, clean(item, request))
		}
		return out
	case string:
		for _, c := range chance {
			v = c.pattern.ReplaceAllStringFunc(v, func(s string) string {
				if strings.Contains(request, s) {
					return s
				}
				return c.pattern.ReplaceAllString(s, c.words)
			})
		}
		return v
	case float64:
		if v >= 30000 && v <= 32799 && !strings.Contains(request, strconv.Itoa(int(v))) {
			return "PORT"
		}
	}
	return v
}
