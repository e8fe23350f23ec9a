package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Each thing that a machine or a command line may lack is told in one line with the mend, by its exit code, before
// anything is touched.
func TestPreflightOfEachCase(t *testing.T) {
	t.Parallel()
	mounted := func(flags uintptr, options string) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			})
			return filepath.Join(dir, "node")
		}
	}
	fresh := func(t *testing.T) string { return filepath.Join(t.TempDir(), "node") }
	for name, tc := range map[string]struct {
		root func(*testing.T) string
		args []string
		user uint32
		code int
		want string
	}{
		"not root":        {root: fresh, user: 65534, code: 3, want: "podium up must be root to make namespaces, cgroups and mounts, and runs as user 65534; run it with sudo"},
		"small disk":      {root: mounted(0, "size=16m"), code: 3, want: "MiB free and needs 256; free some or give another root with --root DIR"},
		"read-only disk":  {root: mounted(unix.MS_RDONLY, "size=512m"), code: 3, want: "is mounted read-only; mount it writable or give another root"},
		"root is a file":  {root: func(*testing.T) string { return "/etc/passwd" }, code: 3, want: "/etc/passwd is not a folder; give another root with --root DIR"},
		"another address": {root: fresh, args: []string{"--bind", "203.0.113.77:6443"}, code: 3, want: "this machine has no address 203.0.113.77; give one that it has with --bind ADDR:PORT"},
		"no address":      {root: fresh, args: []string{"--bind", "nonsense"}, code: 2, want: `--bind "nonsense" is not ADDR:PORT with a numeric address; give for example --bind 127.0.0.1:6443`},
		"no node name":    {root: fresh, args: []string{"--node-name", "Bad_Name"}, code: 2, want: `--node-name "Bad_Name" cannot be a node's name: a lowercase RFC 1123 subdomain must`},
		"no range":        {root: fresh, args: []string{"--pod-cidr", "10.0.0.0/31"}, code: 2, want: "10.0.0.0/31 has no room for a Pod; give for example 10.244.0.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tc.root(t)
			bind := "127.0.0.1:0"
			for _, detach := range []string{"--detach=false", "--detach"} {
				up := command(binary(), append([]string{"up", detach, "--root", root, "--bind", bind}, tc.args...)...)
				if tc.user != 0 {
					up = asUser(t, up, tc.user)
				}
				out, err := up.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != tc.code || !strings.Contains(string(out), tc.want) || strings.Count(string(out), "\n") != 1 {
					t.Errorf("up %s: %v, want code %d and %q\n%s", detach, err, tc.code, tc.want, out)
				}
				if info, err := os.Stat(root); err == nil && info.IsDir() {
					t.Errorf("up %s made the root", detach)
				}
			}
		})
	}
}

// asUser is the command run by an ordinary user, from a copy of the program that such a user may read.
func asUser(t *testing.T, c *exec.Cmd, user uint32) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "podium-e2e-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := exec.Command(filepath.Join(dir, "podium"), c.Args[1:]...)
	if err := os.WriteFile(theirs.Path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	theirs.Dir = "/"
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	return theirs
}
