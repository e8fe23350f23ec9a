package plan

import (
	"testing"
	"time"
)

func TestMark(t *testing.T) {
	for _, m := range []Mark{
		{Kind: Up, Took: 4100 * time.Millisecond},
		{Kind: Start, Name: "internal/cgroup"},
		{Kind: End, Name: "test/e2e", Took: time.Minute, Err: "exit status 1: \"quoted\"\nand more"},
	} {
		if got, ok := ParseMark("PASS" + m.String()); !ok || got != m {
			t.Errorf("%+v came back as %+v, %v", m, got, ok)
		}
	}
	for _, line := range []string{"", "### up", "\x16### up", "\x16--- PASS: TestX (0.1s)"} {
		if m, ok := ParseMark(line); ok {
			t.Errorf("%q is taken for a mark: %+v", line, m)
		}
	}
}
