//go:build cgo

package oci

import (
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// restrictOOMScore keeps oom_score_adj from asking for what this process may not give: without CAP_SYS_RESOURCE it
// can only be raised. Asking would make the container fail.
func restrictOOMScore(p *specs.Process) []string {
	if p.OOMScoreAdj == nil {
		return nil
	}
	now, lowest, err := oomScore(*p.OOMScoreAdj)
	if err != nil || *p.OOMScoreAdj >= lowest {
		return nil
	}
	note := fmt.Sprintf("oom_score_adj stays %d, %d was asked for: the runtime has no CAP_SYS_RESOURCE", now, *p.OOMScoreAdj)
	p.OOMScoreAdj = &lowest
	return []string{note}
}

// oomScore tries the value on this process, whose own score does not matter, and returns what it then has and
// the lowest value it may have.
func oomScore(want int) (now, lowest int, err error) {
	const file = "/proc/self/oom_score_adj"
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(data), &now); err != nil {
		return 0, 0, err
	}
	if want >= now {
		return now, want, nil
	}
	err = os.WriteFile(file, fmt.Appendf(nil, "%d", want), 0)
	if errors.Is(err, os.ErrPermission) {
		return now, now, nil
	}
	return want, want, err
}
