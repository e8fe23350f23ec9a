package guard

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unrevised are the folders whose comments are not in plain English yet. The list only shrinks.
var unrevised = []string{
	"test/e2e",
}

// idioms are phrases that a reader of Go stumbles over, and what to write instead.
var idioms = []struct {
	phrase  *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\banswer(s|ed)? with\b`), "returns"},
	{regexp.MustCompile(`\b(say|tell|answer)s? whether\b`), "reports whether"},
	{regexp.MustCompile(`\banswers (nil|true|false|"")`), "returns"},
	{regexp.MustCompile(`\bis that (it|its|they|their)\b`), "a verb: KeepLogs keeps the log"},
	{regexp.MustCompile(`\bwho connects\b`), "clients, callers"},
	{regexp.MustCompile(`\bwhat of\b`), "the part of X that"},
	{regexp.MustCompile(`\bof before\b`), "earlier, previous"},
	{regexp.MustCompile(`\banew\b`), "again"},
	{regexp.MustCompile(`\blest\b`), "so that … not"},
	{regexp.MustCompile(`\bbeside\b`), "next to, in the background, besides"},
	{regexp.MustCompile(`\b(reckon|mend)(s|ed|ing)?\b`), "count; fix, repair"},
	{regexp.MustCompile(`\bwhoever's\b`), "the owner's"},
	{regexp.MustCompile(`\bby and by\b`), "gradually"},
	{regexp.MustCompile(`\bCould not [a-z]+ (it|them)\b`), "Failed to …, with the noun"},
}

// Comments and messages are in plain present-day English.
func TestPlainEnglish(t *testing.T) {
	eachGoFile(t, func(path string, fset *token.FileSet, file *ast.File) {
		for _, group := range file.Comments {
			complain(t, fset.Position(group.Pos()).String(), group.Text())
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
				complain(t, fset.Position(text.Pos()).String(), text.Value)
			}
			return true
		})
	})
}

// So are the documents.
func TestPlainEnglishInDocuments(t *testing.T) {
	top := filepath.Join("..", "..")
	documents, err := filepath.Glob(filepath.Join(top, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(top, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range documents {
		rel, err := filepath.Rel(top, path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		complain(t, filepath.ToSlash(rel), string(text))
	}
}

func complain(t *testing.T, where, text string) {
	t.Helper()
	text = strings.Join(strings.Fields(text), " ")
	for _, i := range idioms {
		if found := i.phrase.FindString(text); found != "" {
			t.Errorf("%s: %q; write instead: %s", where, found, i.instead)
		}
	}
}

// lockHeld matches doc comments of functions that must be called with a lock held.
var lockHeld = regexp.MustCompile(`(?i)\b(with [^.;]*\b(lock|mu|mutex) held|(lock|mu|mutex) (must be|is) held|caller(s)? (must )?holds? (the lock|the mutex|[a-z]+\.mu|mu)\b|(wants|needs|requires) the lock\b)`)

// A function that wants a lock held says so in its name.
func TestLockedNames(t *testing.T) {
	eachGoFile(t, func(_ string, fset *token.FileSet, file *ast.File) {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Doc == nil || strings.HasSuffix(f.Name.Name, "Locked") {
				continue
			}
			if lockHeld.MatchString(strings.Join(strings.Fields(f.Doc.Text()), " ")) {
				t.Errorf("%s: %s wants a lock held: end its name in Locked", fset.Position(f.Pos()), f.Name.Name)
			}
		}
	})
}

// eachGoFile calls f for every Go file, including tests, of the folders that are revised.
func eachGoFile(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	top := filepath.Join("..", "..")
	n := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		name := d.Name()
		if d.IsDir() {
			if path != top && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") || underAny(rel, unrevised) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || name == "words_test.go" || strings.HasPrefix(name, "zz_generated") || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		n++
		f(rel, fset, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 10 {
		t.Fatalf("only %d files found: the walk is broken", n)
	}
}
