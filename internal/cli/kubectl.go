package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	"k8s.io/kubectl/pkg/cmd/util"

	"podium.dev/podium/internal/paths"
)

// newKubectl returns the command that the help lists. Main runs kubectl before cobra sees its flags.
func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [kubectl's own command and flags]",
		Short:              "Run kubectl, with this node's kubeconfig by default",
		Example:            "  podium kubectl get pods -A\n  podium --root /srv/edge kubectl logs web\n  ln -s $(command -v podium) /usr/local/bin/kubectl",
		DisableFlagParsing: true,
		Run:                func(*cobra.Command, []string) {},
	}
}

// splitKubectl finds "[--root DIR] kubectl …" and returns the root (or "") and the arguments after kubectl.
func splitKubectl(args []string) (root string, rest []string, ok bool) {
	root = os.Getenv(rootEnv)
	for len(args) > 0 {
		switch {
		case args[0] == "kubectl":
			return root, args[1:], true
		case args[0] == "--root" && len(args) > 1:
			root, args = args[1], args[2:]
		case strings.HasPrefix(args[0], "--root="):
			root, args = strings.TrimPrefix(args[0], "--root="), args[1:]
		default:
			return "", nil, false
		}
	}
	return "", nil, false
}

// kubectlMain runs kubectl. The kubeconfig is the first of: --kubeconfig, $KUBECONFIG, the node's own if it can
// be read or its root was given, kubectl's default.
func kubectlMain(root string, args []string) int {
	if _, set := os.LookupEnv("KUBECONFIG"); !set {
		config := paths.For(root).AdminKubeconfig
		f, err := os.Open(config)
		if err == nil {
			f.Close()
		} else if root != "" {
			fmt.Fprintf(os.Stderr, "podium: there is no node at %s (%v); start it with: sudo podium up --root %s\n", root, err, root)
		}
		if err == nil || root != "" { // a root that was given must not be mistaken for another cluster
			os.Setenv("KUBECONFIG", config)
		}
	}
	os.Args = args // parts of kubectl read it: plugins, the hint of `config`
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(
		genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	cmd := kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
		PluginHandler: kubectl.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     args,
		ConfigFlags:   flags,
		IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	})
	if err := cli.RunNoErrOutput(cmd); err != nil {
		util.CheckErr(err) // prints it as kubectl does and exits with its code
		return exitFailure
	}
	return exitOK
}
