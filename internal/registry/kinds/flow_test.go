package kinds_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// step is a request of a file in testdata/flows, whose requests run in order, and its response.
type step struct {
	Do   string // "GET /api/v1/…"
	As   string // the type of a patch: merge-patch, …
	Body any
	// Cleanup is set if the response is not compared.
	Cleanup bool

	Code     int
	Message  string
	Warnings []string
	Object   map[string]any
	Table    *rows
}

// rows are the compared parts of a table.
type rows struct {
	Columns []string
	Rows    [][]any
}

func TestFlowsLikeKubernetes(t *testing.T) {
	files, err := filepath.Glob("testdata/flows/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded flows: %v", err)
	}
	server := serve(t)
	// Sequentially, because they use the same names.
	t.Run("flows", func(t *testing.T) {
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				var steps []step
				if err := yaml.UnmarshalStrict(content, &steps); err != nil {
					t.Fatal(err)
				}
				for i, s := range steps {
					s.take(t, server, i)
				}
			})
		}
	})
}

func (s step) take(t *testing.T, server *api, i int) {
	t.Helper()
	method, path, _ := strings.Cut(s.Do, " ")
	accept := asJSON
	if s.Table != nil {
		accept = asTable
	}
	a := server.send(t, method, path, s.As, s.Body, accept)
	if s.Cleanup {
		return
	}
	request := path
	if s.Body != nil {
		request += string(text(t, s.Body))
	}
	got := step{Do: s.Do, As: s.As, Body: s.Body, Warnings: a.warnings}
	switch {
	case a.code >= http.StatusBadRequest:
		got.Code = a.code
		got.Message, _ = clean(a.body["message"], request).(string)
	case s.Table != nil:
		got.Table = seen(a.body, request)
	default:
		got.Object, _ = clean(a.body, request).(map[string]any)
	}
	if d := cmp.Diff(s, got); d != "" {
		t.Errorf("step %d, %s (-Kubernetes +Podium):\n%s", i+1, s.Do, d)
	}
}

func seen(table map[string]any, request string) *rows {
	out := &rows{Columns: []string{}, Rows: [][]any{}}
	columns, _ := table["columnDefinitions"].([]any)
	for _, c := range columns {
		out.Columns = append(out.Columns, c.(map[string]any)["name"].(string))
	}
	list, _ := table["rows"].([]any)
	for _, r := range list {
		out.Rows = append(out.Rows, ageless(clean(r.(map[string]any)["cells"], request).([]any)))
	}
	return out
}

// ageless replaces each age by a constant.
func ageless(cells []any) []any {
	for i, cell := range cells {
		if words, ok := cell.(string); ok && age.MatchString(words) {
			cells[i] = "AGE"
		}
	}
	return cells
}
