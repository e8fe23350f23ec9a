package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"podium.dev/podium/internal/app"
	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/preflight"
)

// run executes a command line that ends before anything is touched.
func run(args ...string) (out string, code int) {
	cmd := newRoot()
	cmd.SetArgs(args)
	var b bytes.Buffer
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	if err := cmd.Execute(); err != nil {
		return err.Error(), exitCode(err)
	}
	return b.String(), exitOK
}

func TestExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"failure":         {errors.New("no"), exitFailure},
		"usage":           {codedError{errors.New("no"), exitUsage}, exitUsage},
		"preflight":       {preflight.Error{{What: "a", Remedy: "b"}}, exitPreflight},
		"already running": {withCode(app.ErrAlreadyRunning), exitRunning},
		"not running":     {control.ErrNotRunning, exitStopped},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{{"bogus"}, {"up", "--nope"}, {"up", "extra"}, {"image", "pull"}, {"trace", "pod"}, {"kubeconfig", "x"}} {
		out, code := run(args...)
		if code != exitUsage || !strings.Contains(out, "--help") {
			t.Errorf("%v: code %d, %q", args, code, out)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	out, code := run("image", "list", "--root", t.TempDir())
	if code != exitStopped || !strings.Contains(out, control.ErrNotRunning.Error()) {
		t.Errorf("code %d, %q", code, out)
	}
	out, code = run("kubeconfig", "--root", t.TempDir())
	if code != exitFailure || !strings.Contains(out, "podium up") {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestEveryVerbHasAnExample(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no short help", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestSplitKubectl(t *testing.T) {
	t.Setenv(rootEnv, "/from/env")
	for line, want := range map[string]struct {
		root string
		rest []string
		ok   bool
	}{
		"kubectl get pods --root x":  {"/from/env", []string{"get", "pods", "--root", "x"}, true},
		"--root /a kubectl get pods": {"/a", []string{"get", "pods"}, true},
		"--root=/a kubectl":          {"/a", nil, true},
		"up --root /a":               {},
		"--root /a up":               {},
		"":                           {},
	} {
		root, rest, ok := splitKubectl(strings.Fields(line))
		if root != want.root || !slices.Equal(rest, want.rest) || ok != want.ok {
			t.Errorf("%q: got %q %v %v", line, root, rest, ok)
		}
	}
}

func TestWithoutDetach(t *testing.T) {
	got := withoutDetach([]string{"up", "--detach", "--root", "x", "--detach=true"})
	if !slices.Equal(got, []string{"up", "--root", "x"}) {
		t.Errorf("got %v", got)
	}
}

func TestMarkReader(t *testing.T) {
	m := &markReader{r: strings.NewReader("ready\n\x00more")}
	var b bytes.Buffer
	if _, err := b.ReadFrom(m); err != nil || b.String() != "ready\n" || !m.seen {
		t.Errorf("got %q, %v, %v", b.String(), m.seen, err)
	}
}

func TestImpossibleSettings(t *testing.T) {
	for flag, value := range map[string]string{"--bind": "nonsense", "--node-name": "Bad_Name", "--pod-cidr": "10.0.0.0/31"} {
		root := filepath.Join(t.TempDir(), "node")
		out, code := run("up", "--root", root, flag, value)
		if _, err := os.Stat(root); code != exitUsage || !strings.Contains(out, flag) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s %s: code %d, %q (the root: %v)", flag, value, code, out, err)
		}
	}
}
