package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"podium.dev/podium/internal/control"
)

func newImage(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image",
		Short:   "Pull, load, list, remove and export the images of this node",
		Example: "  podium image pull nginx:1.14\n  podium image load web.tar\n  podium image list",
	}
	cmd.AddCommand(newImagePull(o), newImageLoad(o), newImageList(o), newImageRemove(o), newImageExport(o))
	return cmd
}

func (o *options) client() (*control.Client, error) {
	p, err := o.paths()
	if err != nil {
		return nil, err
	}
	return control.NewClient(p.ControlSocket), nil
}

func newImagePull(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "pull IMAGE",
		Short:   "Pull an image from its registry",
		Example: "  podium image pull nginx:1.14",
		Args:    exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := o.client()
			if err != nil {
				return err
			}
			image, err := client.PullImage(cmd.Context(), args[0], func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
			if err != nil {
				return fmt.Errorf("pull %s: %w", args[0], err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), image.ID)
			return nil
		},
	}
}

func newImageLoad(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "load ARCHIVE",
		Short:   "Load an archive: docker-save or OCI layout, uncompressed, gzip or zstd",
		Example: "  podium image load web.tar",
		Args:    exactArgs("ARCHIVE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			archive, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if _, err := os.Stat(archive); err != nil {
				return fmt.Errorf("load %s: %w", args[0], err)
			}
			client, err := o.client()
			if err != nil {
				return err
			}
			images, err := client.LoadImage(cmd.Context(), archive)
			if err != nil {
				return fmt.Errorf("load %s: %w", args[0], err)
			}
			for _, i := range images {
				fmt.Fprintln(cmd.OutOrStdout(), strings.Join(i.Names, "\n"))
			}
			return nil
		},
	}
}

func newImageList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the images of this node",
		Example: "  podium image list",
		Aliases: []string{"ls"},
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := o.client()
			if err != nil {
				return err
			}
			images, err := client.ListImages(cmd.Context())
			if err != nil {
				return fmt.Errorf("list images: %w", err)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tID\tSIZE")
			for _, i := range images {
				names := i.Names
				if len(names) == 0 {
					names = []string{"<none>"}
				}
				for _, n := range names {
					fmt.Fprintf(w, "%s\t%.12s\t%s\n", n, strings.TrimPrefix(i.ID, "sha256:"), units.HumanSize(float64(i.Size)))
				}
			}
			return w.Flush()
		},
	}
}

func newImageRemove(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "remove IMAGE",
		Short:   "Remove an image from this node",
		Example: "  podium image remove nginx:1.14",
		Aliases: []string{"rm"},
		Args:    exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := o.client()
			if err != nil {
				return err
			}
			if err := client.RemoveImage(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("remove %s: %w", args[0], err)
			}
			return nil
		},
	}
}

func newImageExport(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "export IMAGE -o FILE",
		Short:   "Write an image as a docker-save archive",
		Example: "  podium image export nginx:1.14 -o nginx.tar",
		Args:    exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := o.client()
			if err != nil {
				return err
			}
			if file == "-" {
				return client.ExportImage(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			// The archive gets its name only when it is complete.
			part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part-")
			if err != nil {
				return fmt.Errorf("export %s: %w", args[0], err)
			}
			defer os.Remove(part.Name())
			if err := client.ExportImage(cmd.Context(), args[0], part); err != nil {
				part.Close()
				return fmt.Errorf("export %s: %w", args[0], err)
			}
			if err := part.Close(); err != nil {
				return fmt.Errorf("export %s: %w", args[0], err)
			}
			return os.Rename(part.Name(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "-", "the archive's path; - is standard output")
	return cmd
}
