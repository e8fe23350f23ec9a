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
		Short: "Stop the Pods and the daemon, and remove what the node made on the machine",
		Long: "Stops the daemon, then every container (SIGTERM, the Pod's grace period, SIGKILL), and removes what\n" +
			"the node made on this machine: processes, mounts, network namespaces, links, cgroups, nft rules. The\n" +
			"root folder and the objects stored in it stay: the next up starts the Pods again. --purge removes them.",
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
	cmd.Flags().BoolVar(&purge, "purge", false, "also remove the root folder, with every stored object and image")
	return cmd
}
