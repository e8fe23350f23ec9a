package container

import (
	"fmt"
	"strings"
	"unicode"
)

// What goes into a file of lines (resolv.conf, hosts) is checked as it is written, whatever the API has let through
// or an older release has stored: a line break would begin a line of the Pod author's own.

// oneLine refuses control characters.
func oneLine(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%q has a line break or another control character", text)
	}
	return nil
}

// oneWord refuses control characters, blanks and what begins a comment.
func oneWord(text string) error {
	if strings.ContainsFunc(text, unicode.IsSpace) || strings.Contains(text, "#") {
		return fmt.Errorf("%q is not one word", text)
	}
	return oneLine(text)
}
