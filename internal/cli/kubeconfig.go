package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func newKubeconfig(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "kubeconfig",
		Short:   "Print the path of the admin's kubeconfig",
		Example: "  export KUBECONFIG=$(podium kubeconfig)",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := o.paths()
			if err != nil {
				return err
			}
			if _, err := os.Stat(p.AdminKubeconfig); errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("there is no kubeconfig at %s yet; podium up creates it", p.AdminKubeconfig)
			} else if err != nil {
				return fmt.Errorf("find the kubeconfig: %w; run it with sudo", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), p.AdminKubeconfig)
			return nil
		},
	}
}
