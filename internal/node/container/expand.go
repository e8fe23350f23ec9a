package container

import (
	"podium.dev/podium/internal/node/expand"
)

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, s := range list {
		out = append(out, expand.Expand(s, lookup))
	}
	return out
}
