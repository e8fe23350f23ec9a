//go:build cgo

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"podium.dev/podium/internal/safeopen"
	"podium.dev/podium/internal/shim/bundle"
)

// resolveUser looks the bundle's user up in the /etc/passwd and /etc/group of the mounted root file system. A UID
// that /etc/passwd does not have is taken as it is, with group 0.
func resolveUser(rootfs string, u bundle.User) (specs.User, error) {
	passwd, group := readIn(rootfs, "/etc/passwd"), readIn(rootfs, "/etc/group")
	found, err := user.GetExecUser(u.Name, &user.ExecUser{}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("unable to find user %s: %w", u.Name, err)
	}
	// With a group named, the user's other groups are left out: they are looked up for the user alone.
	name, _, _ := strings.Cut(u.Name, ":")
	alone, err := user.GetExecUser(name, &user.ExecUser{}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("unable to find user %s: %w", name, err)
	}
	out := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	out.AdditionalGids = []uint32{out.GID}
	add := func(g uint32) {
		for _, have := range out.AdditionalGids {
			if have == g {
				return
			}
		}
		out.AdditionalGids = append(out.AdditionalGids, g)
	}
	if !u.Strict {
		for _, g := range alone.Sgids {
			add(uint32(g))
		}
	}
	for _, g := range u.Groups {
		add(g)
	}
	return out, nil
}

// maxAccounts is how much of such a file is read.
const maxAccounts = 4 << 20

// readIn reads a file inside root, never following a link out of it. One that is not there is empty.
func readIn(root, path string) []byte {
	f, err := safeopen.In(root, path)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, maxAccounts))
	return data
}

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

// oomScore tries the value on this process, whose own score does not matter, and answers with what it then has and
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
