package guard

import (
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
