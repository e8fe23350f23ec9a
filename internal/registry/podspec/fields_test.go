package podspec

import (
	_ "embed"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

//go:embed testdata/fields.txt
var fieldTable string

// repository is the way from this package to the repository's root.
const repository = "../../.."

// fate is what becomes of a field, and where or why.
type fate struct{ verb, where string }

func readFieldTable(t *testing.T) map[string]fate {
	t.Helper()
	table := map[string]fate{}
	for line := range strings.Lines(fieldTable) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Fields(line)
		if len(parts) < 3 {
			t.Fatalf("not a line of the table: %q", line)
		}
		if _, twice := table[parts[0]]; twice {
			t.Errorf("%s is there twice", parts[0])
		}
		table[parts[0]] = fate{parts[1], strings.Join(parts[2:], " ")}
	}
	return table
}

// specFields are all fields below v1.PodSpec as TYPE.FIELD. Embedded structs are not fields of their own.
func specFields() []string {
	var all []string
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
			return
		}
		if typ.Kind() != reflect.Struct || seen[typ] || !strings.HasPrefix(typ.PkgPath(), "k8s.io/api/") {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.Anonymous {
				all = append(all, typ.Name()+"."+f.Name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[corev1.PodSpec]())
	return all
}

// No field of a Pod is accepted without anybody knowing what becomes of it: each is in the table, and the table says
// what is so.
func TestEveryField(t *testing.T) {
	table := readFieldTable(t)
	scope := source(t, "SCOPE.md")
	for _, name := range specFields() {
		f, ok := table[name]
		if !ok {
			t.Errorf("%s is not in testdata/fields.txt: act on it, refuse it, or list it in SCOPE.md; then add it there", name)
			continue
		}
		delete(table, name)
		_, field, _ := strings.Cut(name, ".")
		switch f.verb {
		case "acted", "dropped":
			if !regexp.MustCompile(`\.` + field + `\b`).MatchString(source(t, f.where)) {
				t.Errorf("%s: %s does not read it", name, f.where)
			}
		case "refused", "told":
			source(t, f.where)
		case "within":
			if other, ok := readFieldTable(t)[f.where]; !ok || other.verb == "within" {
				t.Errorf("%s: %s has no fate of its own", name, f.where)
			}
		case "scope":
			if !strings.Contains(scope, f.where) {
				t.Errorf("%s: SCOPE.md does not have the words %q", name, f.where)
			}
		default:
			t.Errorf("%s: %q is no fate", name, f.verb)
		}
	}
	for name := range table {
		t.Errorf("%s is in testdata/fields.txt and not in v1.PodSpec", name)
	}
}

var sources = map[string]string{}

func source(t *testing.T, path string) string {
	t.Helper()
	if text, ok := sources[path]; ok {
		return text
	}
	text, err := os.ReadFile(filepath.Join(repository, filepath.FromSlash(path)))
	if err != nil {
		t.Error(err)
	}
	sources[path] = string(text)
	return sources[path]
}
