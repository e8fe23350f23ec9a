package rootfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"podium.dev/podium/internal/safeopen"
	"podium.dev/podium/internal/shim/bundle"
)

// User looks the bundle's user up in the /etc/passwd and /etc/group of the root file system that is mounted at root. A
// UID that /etc/passwd does not have is taken as it is, with group 0.
func User(root string, u bundle.User) (specs.User, error) {
	passwd, group := readIn(root, "/etc/passwd"), readIn(root, "/etc/group")
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

// Named reports whether a user or its group is a name, which an image may not know. Numbers are always good.
func Named(u bundle.User) bool {
	for _, part := range strings.Split(u.Name, ":") {
		if strings.Trim(part, "0123456789") != "" {
			return true
		}
	}
	return false
}

// SubPath returns where the folder of the image that is mounted at dir is, never following a link out of it.
func SubPath(dir, path string) (string, error) {
	sub, err := securejoin.SecureJoin(dir, path)
	if err != nil {
		return "", fmt.Errorf("image volume subpath %q: %w", path, err)
	}
	if st, err := os.Lstat(sub); err != nil || !st.IsDir() {
		return "", fmt.Errorf("image volume subpath %q is not a folder of the image", path)
	}
	return sub, nil
}
