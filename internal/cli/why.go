package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/why"
)

const whyHelp = `Why says why a Pod does not run, is not ready or does not end, and what would mend it: for a Pod without a
node, which rule of the scheduler refuses each node and by how much; for one that has a node, what is in the way
of its image, volumes, containers, probes and limits. The scheduler's rules are those of its default profile,
held against the cluster as it is now. KIND/NAME says why a Deployment, a ReplicaSet or another
owner has not made its Pods, such as for a quota.

It asks the API with the rights of the kubeconfig: --kubeconfig, $KUBECONFIG, the node's own, kubectl's usual place.
What those rights do not let it read it names.

` + exitCodesHelp

func newWhy(o *options) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true)
	format := ""
	cmd := &cobra.Command{
		Use:     "why POD | KIND/NAME",
		Short:   "Say why a Pod does not run, and what would mend it",
		Long:    whyHelp,
		Example: "  podium why web\n  podium why web -n shop -o json\n  podium why deployment/web",
		Args:    exactArgs("POD or KIND/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := whyFormat(format)
			if err != nil {
				return err
			}
			ownKubeconfig(flags, o.root)
			facts, err := whyFacts(cmd.Context(), flags, args[0])
			if utilnet.IsConnectionRefused(err) {
				return fmt.Errorf("%w; is a node up? start one: podium up; or name a kubeconfig: --kubeconfig", err)
			}
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), why.Explain(facts), facts.Now)
		},
	}
	cmd.Flags().StringVarP(flags.Namespace, "namespace", "n", "", "the Pod's namespace; without it the kubeconfig's")
	cmd.Flags().StringVar(flags.KubeConfig, "kubeconfig", "", "how to reach the API, and as whom")
	cmd.Flags().StringVarP(&format, "output", "o", "", "json or yaml, for programs; without it text")
	return cmd
}

// whyFormat answers with what writes the answer in the format.
func whyFormat(format string) (func(io.Writer, why.Explanation, time.Time) error, error) {
	switch format {
	case "":
		return why.Write, nil
	case "json":
		return func(w io.Writer, e why.Explanation, _ time.Time) error {
			out := json.NewEncoder(w)
			out.SetIndent("", "  ")
			return out.Encode(e)
		}, nil
	case "yaml":
		return func(w io.Writer, e why.Explanation, _ time.Time) error {
			text, err := yaml.Marshal(e)
			if err != nil {
				return fmt.Errorf("write the answer as YAML: %w", err)
			}
			_, err = w.Write(text)
			return err
		}, nil
	}
	return nil, codedError{fmt.Errorf("--output %q: it is json or yaml; see: podium why --help", format), exitUsage}
}

// ownKubeconfig has the node's own kubeconfig used when none is named and it can be read.
func ownKubeconfig(flags *genericclioptions.ConfigFlags, root string) {
	if _, set := os.LookupEnv("KUBECONFIG"); set || *flags.KubeConfig != "" {
		return
	}
	config := paths.For(root).AdminKubeconfig
	if f, err := os.Open(config); err == nil {
		f.Close()
		*flags.KubeConfig = config
	}
}

// whyFacts reads what there is to know of the Pod or the owner that is asked about.
func whyFacts(ctx context.Context, flags *genericclioptions.ConfigFlags, what string) (*why.Facts, error) {
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w; is a node up? else name one by --kubeconfig", err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reach the API: %w", err)
	}
	reader := &why.Reader{Client: client, Clock: clock.RealClock{}}
	kind, name, isOwner := strings.Cut(what, "/")
	switch strings.ToLower(kind) {
	case "pod", "pods", "po":
		if isOwner {
			return reader.Pod(ctx, namespace, name)
		}
	}
	if !isOwner {
		return reader.Pod(ctx, namespace, what)
	}
	infos, err := resource.NewBuilder(flags).Unstructured().NamespaceParam(namespace).DefaultNamespace().
		ResourceTypeOrNameArgs(false, what).SingleResourceType().Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("read %s of namespace %s: %w", what, namespace, err)
	}
	owner, ok := infos[0].Object.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("read %s of namespace %s: it is a %T", what, namespace, infos[0].Object)
	}
	return reader.Owner(ctx, owner)
}
