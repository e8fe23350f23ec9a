package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"podium.dev/podium/internal/control"
)

func newTrace(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "trace",
		Short:   "Show where the time of a Pod's start went",
		Example: "  podium trace pod web\n  podium trace pod web -n shop",
	}
	namespace := "default"
	pod := &cobra.Command{
		Use:     "pod NAME",
		Short:   "Show each step of a Pod's start and stop with its time",
		Example: "  podium trace pod web\n  podium trace pod web -n shop",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.paths()
			if err != nil {
				return err
			}
			steps, err := control.NewClient(p.ControlSocket).Trace(cmd.Context(), namespace, args[0])
			if err != nil {
				return fmt.Errorf("trace Pod %s/%s: %w", namespace, args[0], err)
			}
			return printTrace(cmd, steps)
		},
	}
	pod.Flags().StringVarP(&namespace, "namespace", "n", namespace, "the Pod's namespace")
	cmd.AddCommand(pod)
	return cmd
}

// printTrace prints one line per step: when it began, counted from the first step, how long it took, and its
// name.
func printTrace(cmd *cobra.Command, steps []control.Step) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tTOOK\tSTEP\tERROR")
	for _, s := range steps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Start.Sub(steps[0].Start).Round(10*time.Microsecond), s.Took.Round(10*time.Microsecond), s.Name, s.Error)
	}
	return w.Flush()
}
