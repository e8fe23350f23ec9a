package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"podium.dev/podium/internal/app"
)

func newDown(o *options) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the Pods and the daemon; nothing of the node stays on the machine",
		Long: "Stops the daemon, then every container (SIGTERM, the Pod's grace period, SIGKILL), and takes away what\n" +
			"the node made on this machine: processes, mounts, network namespaces, links, cgroups, nft rules. The\n" +
			"root's folder stays, and with it the stored objects: the next up starts the Pods again. --purge removes it.",
		Example: "  sudo podium down\n  sudo podium down --root /srv/edge --purge",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := o.paths()
			if err != nil {
				return err
			}
			return app.Down(cmd.Context(), p, purge, func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) })
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the root's folder too, with every stored object and image")
	return cmd
}
