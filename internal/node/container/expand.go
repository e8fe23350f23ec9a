package container

import (
	"podium.dev/podium/internal/node/handler"
)

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, s := range list {
		out = append(out, handler.Expand(s, lookup))
	}
	return out
}
