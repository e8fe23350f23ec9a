package handler

import (
	"strings"
	"unicode/utf8"
)

// Expand replaces $(NAME) by what lookup knows of NAME. "$$" is a dollar, so "$$(NAME)" stays "$(NAME)"; a
// name that is not known, and whatever is not a reference, stays as it is. One pass: what is put in is not
// looked at again.
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
