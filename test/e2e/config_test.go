package e2e

import (
	"os"
	"regexp"
)

// configure edits the node's settings: a line that matches is made another, or where none does it is added.
func (s *space) configure(line, becomes string) {
	s.Helper()
	path := s.node.paths.KubeletConfig
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	re := regexp.MustCompile("(?m)^" + line + "$")
	if re.Match(b) {
		b = re.ReplaceAll(b, []byte(becomes))
	} else {
		b = append(b, becomes+"\n"...)
	}
	part := path + ".part"
	if err := os.WriteFile(part, b, 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(part, path); err != nil {
		s.Fatal(err)
	}
}
