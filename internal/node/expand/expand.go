// Package expand replaces the references $(NAME) in a container's command, arguments, environment and paths.
package expand

import (
	"strings"
	"unicode/utf8"
)

// Expand replaces $(NAME) by the value that lookup returns for NAME. "$$" is a dollar, so "$$(NAME)" becomes "$(NAME)".
// A name without a value, and everything that is not a reference, stays unchanged. Values are not expanded again.
func Expand(s string, lookup func(name string) (string, bool)) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:at])
		s = s[at+1:]
		if s[0] == '$' {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		name, rest, closed := "", "", false
		if s[0] == '(' {
			name, rest, closed = strings.Cut(s[1:], ")")
		}
		if !closed {
			_, size := utf8.DecodeRuneInString(s)
			b.WriteString("$" + s[:size])
			s = s[size:]
			continue
		}
		if value, ok := lookup(name); ok {
			b.WriteString(value)
		} else {
			b.WriteString("$(" + name + ")")
		}
		s = rest
	}
}
