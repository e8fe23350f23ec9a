// Package cli is podium's command line, one file per command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/preflight"
)

// Exit codes of every command except kubectl, which has its own.
const (
	exitOK        = 0
	exitFailure   = 1
	exitUsage     = 2
	exitPreflight = 3
	exitRunning   = 4
	exitStopped   = 5
	exitMissing   = 6
)

const exitCodesHelp = `Exit codes:
  0  done
  1  the command failed; the error names the cause and the fix
  2  the command line is wrong
  3  this machine cannot run a node; nothing was touched
  4  a podium is already running on this root; nothing was changed
  5  no podium is running on this root
  6  podium why: there is no such object`

// codedError is an error with the exit code of the process.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// rootEnv names the environment variable that sets the root when --root is not given.
const rootEnv = "PODIUM_ROOT"

// Main runs the command line and returns the exit code. args[0] is the name that the program was called by; a
// name that begins with kubectl runs kubectl.
func Main(args []string) int {
	if strings.HasPrefix(filepath.Base(args[0]), "kubectl") {
		return kubectlMain(os.Getenv(rootEnv), args)
	}
	if root, rest, ok := splitKubectl(args[1:]); ok {
		return kubectlMain(root, append([]string{"kubectl"}, rest...))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd := newRoot()
	cmd.SetArgs(args[1:])
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintln(os.Stderr, "podium:", line)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var coded codedError
	var refused preflight.Error
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &refused):
		return exitPreflight
	case errors.Is(err, control.ErrNotRunning):
		return exitStopped
	default:
		return exitFailure
	}
}

// options are the flags that every command has.
type options struct{ root string }

// paths returns the paths of the node that the command is about.
func (o *options) paths() (paths.Paths, error) {
	root, err := filepath.Abs(o.root)
	if err != nil {
		return paths.Paths{}, fmt.Errorf("--root %q: %w", o.root, err)
	}
	return paths.For(root), nil
}

func defaultRoot() string {
	if r := os.Getenv(rootEnv); r != "" {
		return r
	}
	return paths.DefaultRoot
}

func newRoot() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "podium",
		Short: "The Kubernetes Pod system in one binary",
		Long: "Podium is the Kubernetes Pod system in one binary: the API that kubectl talks to, the store, the\n" +
			"scheduler, the node agent and the container runtime.\n\n" + exitCodesHelp,
		Example:       "  sudo podium up --detach\n  podium kubectl run webserver --image=nginx:1.14\n  podium kubectl get pods\n  sudo podium down",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return codedError{fmt.Errorf("unknown command %q; see: podium --help", args[0]), exitUsage}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.root, "root", defaultRoot(), "the node's folder (environment variable: "+rootEnv+")")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return codedError{fmt.Errorf("%w; see: %s --help", err, c.CommandPath()), exitUsage}
	})
	cmd.AddCommand(newUp(o), newDown(o), newKubectl(), newKubeconfig(o), newImage(o), newTrace(o), newWhy(o), newVersion())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}

// noArgs rejects arguments with the exit code for a wrong command line.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return codedError{fmt.Errorf("%s takes no arguments, got %q; see: %s --help", cmd.CommandPath(), args[0], cmd.CommandPath()), exitUsage}
	}
	return nil
}

// exactArgs rejects any number of arguments other than that of the names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return codedError{fmt.Errorf("%s requires %s; see: %s --help", cmd.CommandPath(), strings.Join(names, " "), cmd.CommandPath()), exitUsage}
		}
		return nil
	}
}
