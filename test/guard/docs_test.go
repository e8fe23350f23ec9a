package guard

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedFile   = regexp.MustCompile("`([a-zA-Z0-9_/*-]+\\.go)`")
	namedFolder = regexp.MustCompile("`((?:internal|cmd|test|docs|examples)/[a-zA-Z0-9_/-]+)`")
)

// The documents name only what exists: a file by the end of its path, a folder from the top.
func TestDocumentsNameWhatIs(t *testing.T) {
	_, all := sources(t)
	for _, document := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", document))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedFile.FindAllStringSubmatch(string(text), -1) {
			if !ends(all, m[1]) {
				t.Errorf("%s names %s, which is not there", document, m[1])
			}
		}
		for _, m := range namedFolder.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(m[1]))); err != nil && !strings.Contains(m[1], "*") {
				t.Errorf("%s names %s: %v", document, m[1], err)
			}
		}
	}
}

// ends reports whether a file's path ends in the names, the last of which may be a pattern.
func ends(all []source, names string) bool {
	depth := strings.Count(names, "/") + 1
	for _, s := range all {
		parts := strings.Split(s.path, "/")
		if len(parts) < depth {
			continue
		}
		if ok, _ := path.Match(names, path.Join(parts[len(parts)-depth:]...)); ok {
			return true
		}
	}
	return false
}

// namedThing is a constant, or another part of a package, as docs/limits.md has it: `node/stats.maxDepth`.
var namedThing = regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)(?:\\.([a-zA-Z]+))?`")

// The document of limits has each of them where it is: a folder below internal, with a dot and a name that the package has.
func TestLimitsAreWhereTheDocumentSays(t *testing.T) {
	_, all := sources(t)
	has := map[string]map[string]bool{}
	for _, s := range all {
		if s.forTests() || !strings.HasPrefix(s.dir(), "internal/") {
			continue
		}
		names := has[s.dir()]
		if names == nil {
			names = map[string]bool{}
			has[s.dir()] = names
		}
		for _, d := range s.file.Decls {
			for _, name := range declared(d) {
				names[name] = true
			}
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		columns := strings.Split(line, " | ")
		if len(columns) != 4 {
			continue
		}
		for _, m := range namedThing.FindAllStringSubmatch(columns[2], -1) {
			if m[1]+"."+m[2] == "config.yaml" {
				continue // a setting
			}
			if names, ok := has["internal/"+m[1]]; !ok || m[2] != "" && !names[m[2]] {
				t.Errorf("docs/limits.md: %s is not there", m[0])
			}
		}
	}
}

// declared returns the names that a declaration gives its package: of constants, variables, types and functions.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		names = append(names, d.Name.Name)
		return append(names, constantsIn(d)...)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			}
		}
	}
	return names
}

// constantsIn returns the names of the constants that a function has for itself.
func constantsIn(f *ast.FuncDecl) (names []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			names = append(names, declared(d)...)
		}
		return true
	})
	return names
}
