// Package guard holds the tests that guard the architecture: import directions, and rules that every file
// follows.
package guard

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "podium.dev/podium/"

// source is one product file of the project (tests and generated files are left out).
type source struct { // relative to the top of the project, with slashes
	path string // from the top of the project, with slashes
	file *ast.File
	text []byte
}

func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// forTests reports whether the file belongs to a package that only tests import. The name of such a package
// ends in "test".
func (s source) forTests() bool { return strings.HasSuffix(s.file.Name.Name, "test") }

func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	top := filepath.Join("..", "..")
	fset := token.NewFileSet()
	var out []source
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != top && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") ||
			strings.HasPrefix(name, "zz_generated") || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		out = append(out, source{path: filepath.ToSlash(rel), file: file, text: text})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("only %d files found: the walk is broken", len(out))
	}
	return fset, out
}

// Every package has exactly one package comment.
func TestOnePackageComment(t *testing.T) {
	_, files := sources(t)
	comments := map[string][]string{}
	for _, s := range files {
		if _, seen := comments[s.dir()]; !seen {
			comments[s.dir()] = nil
		}
		if s.file.Doc != nil && (strings.HasPrefix(s.file.Doc.Text(), "Package ") || strings.HasPrefix(s.file.Doc.Text(), "Command ")) {
			comments[s.dir()] = append(comments[s.dir()], s.path)
		}
	}
	for dir, in := range comments {
		if len(in) != 1 {
			t.Errorf("%s: want one package comment, found %d: %v", dir, len(in), in)
		}
	}
}

// Long files must be split.
func TestNoLongFile(t *testing.T) {
	_, files := sources(t)
	for _, s := range files {
		if n := bytes.Count(s.text, []byte("\n")); n > 600 {
			t.Errorf("%s has %d lines; 600 is the end", s.path, n)
		}
	}
}

// Product code does not sleep: it waits for events.
func TestNoSleep(t *testing.T) {
	fset, files := sources(t)
	for _, s := range files {
		if strings.HasPrefix(s.path, "test/") || s.forTests() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s sleeps; wait for the event instead", fset.Position(sel.Pos()))
				}
			}
			return true
		})
	}
}

// rule lists what the packages below a folder must not import, and why.
type rule struct {
	below  string
	forbid []string
	why    string
	except []string
}

var rules = []rule{
	{below: "", forbid: []string{"k8s.io/kubernetes"}, why: "it is not meant to be imported; what it holds is what we write"},
	{below: "internal/registry", forbid: []string{module + "internal/apiserver", module + "internal/node", module + "internal/scheduler", module + "internal/controller", module + "internal/app", module + "internal/cri"},
		why: "a kind knows nothing of who serves it or acts on it"},
	{below: "internal/scheduler", forbid: []string{module + "internal/apiserver", module + "internal/node", module + "internal/cri", module + "internal/app", module + "internal/store"},
		why: "the scheduler speaks to the API only"},
	{below: "internal/controller", forbid: []string{module + "internal/apiserver", module + "internal/node", module + "internal/cri", module + "internal/app", module + "internal/store"},
		why: "a controller speaks to the API only"},
	{below: "internal/node", forbid: []string{module + "internal/apiserver", module + "internal/scheduler", module + "internal/controller", module + "internal/store", module + "internal/app", module + "internal/cri", module + "internal/image", module + "internal/network", module + "internal/shim"},
		why: "the node agent speaks to the API and to CRI only"},
	{below: "internal/node/pod", forbid: []string{module + "internal/node/worker", module + "internal/node/volume", module + "internal/node/probe", "k8s.io/client-go"},
		why: "deciding is pure"},
	{below: "internal/cri", forbid: []string{module + "internal/node", module + "internal/apiserver", module + "internal/app", "k8s.io/client-go"},
		why: "the runtime is usable alone behind CRI"},
	{below: "internal/shim", forbid: []string{module + "internal/cri", module + "internal/node", module + "internal/image", module + "internal/network", "k8s.io/client-go", "k8s.io/apiserver"},
		why: "the shim is small"},
	{below: "internal/network", forbid: []string{module + "internal/cri", module + "internal/node", "k8s.io/client-go"}, why: "an edge knows only what it wraps"},
	{below: "internal/services", forbid: []string{module + "internal/apiserver", module + "internal/node", module + "internal/cri", module + "internal/app", module + "internal/store", module + "internal/controller", module + "internal/network"},
		why: "the proxy speaks to the API and to nftables only"},
	{below: "internal/nft", forbid: []string{module + "internal", "k8s.io/client-go"}, why: "an edge knows only what it wraps"},
	{below: "internal/image", forbid: []string{module + "internal/cri", module + "internal/node", "k8s.io/client-go"}, why: "an edge knows only what it wraps"},
	{below: "internal", forbid: []string{module + "internal/app"}, why: "only the command line starts the whole", except: []string{"internal/app", "internal/cli"}},
	{below: "internal", forbid: []string{module + "internal/cli"}, why: "nothing is below the command line", except: []string{"internal/cli"}},
}

// Imports point in one direction.
func TestImportDirection(t *testing.T) {
	_, files := sources(t)
	for _, s := range files {
		for _, r := range rules {
			if !under(s.dir(), r.below) || underAny(s.dir(), r.except) || s.forTests() {
				continue
			}
			for _, imp := range s.file.Imports {
				path := strings.Trim(imp.Path.Value, `"`)
				for _, f := range r.forbid {
					if under(path, f) {
						t.Errorf("%s imports %s: %s", s.path, path, r.why)
					}
				}
			}
		}
	}
}

func under(path, top string) bool {
	return top == "" || path == top || strings.HasPrefix(path, top+"/")
}

func underAny(path string, tops []string) bool {
	for _, top := range tops {
		if under(path, top) {
			return true
		}
	}
	return false
}

// TestNoFoldersImportEachOther fails if two folders of the same parent import each other, directly or from folders
// below them. The compiler only forbids it for packages.
func TestNoFoldersImportEachOther(t *testing.T) {
	type edge struct{ from, to string }
	example := map[edge]string{}
	_, all := sources(t)
	for _, f := range all {
		for _, spec := range f.file.Imports {
			to, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours {
				continue
			}
			a, b := siblings(f.dir(), to)
			if a != "" && example[edge{a, b}] == "" {
				example[edge{a, b}] = f.path + " imports " + to
			}
		}
	}
	for e, why := range example {
		if back := example[edge{e.to, e.from}]; back != "" && e.from < e.to {
			t.Errorf("%s and %s import each other: %s; %s", e.from, e.to, why, back)
		}
	}
}

// siblings returns the first folders in which two paths differ, or "" if one path is within the other.
func siblings(from, to string) (string, string) {
	a, b := strings.Split(from, "/"), strings.Split(to, "/")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return strings.Join(a[:i+1], "/"), strings.Join(b[:i+1], "/")
		}
	}
	return "", ""
}
