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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

const whyHelp = `Explains why a Pod does not run, is not ready or does not end, and how to fix it. For a Pod without a
node it lists which rule of the scheduler refuses each node, and by how much. For a Pod with a node it lists what
is in the way of its image, volumes, containers, probes and limits. The scheduler's rules are those of the default
profile, applied to the present state of the cluster. With KIND/NAME it explains why a Deployment, a StatefulSet, a
DaemonSet, a Job, a CronJob or another owner has not created its Pods or goes no further: a quota, a pause, a
deadline, a Pod that others wait for. Of a PodDisruptionBudget it says what keeps Pods from being evicted, of a
HorizontalPodAutoscaler what keeps it from scaling, of a Service why it leads nowhere: no Pod matches, Pods are not
ready, a port has a name that no container knows, a port of a load balancer is taken.

It reads the API with the rights of the kubeconfig, which is the first of: --kubeconfig, $KUBECONFIG, the node's
own, kubectl's default. It lists what those rights do not let it read.

` + exitCodesHelp

func newWhy(o *options) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true)
	format := ""
	cmd := &cobra.Command{
		Use:     "why POD | KIND/NAME",
		Short:   "Explain why a Pod does not run, and how to fix it",
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
				return fmt.Errorf("%w; is a node running? start one with podium up, or give a kubeconfig with --kubeconfig", err)
			}
			if apierrors.IsNotFound(err) {
				return codedError{err, exitMissing}
			}
			if err != nil {
				return err
			}
			explanation := why.Explain(facts)
			if err := write(cmd.OutOrStdout(), explanation, facts.Now); err != nil {
				return err
			}
			if explanation.Missing {
				return codedError{fmt.Errorf("there is no Pod %s in namespace %s", facts.Name, facts.Namespace), exitMissing}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(flags.Namespace, "namespace", "n", "", "the Pod's namespace (default: that of the kubeconfig)")
	cmd.Flags().StringVar(flags.KubeConfig, "kubeconfig", "", "the kubeconfig file")
	cmd.Flags().StringVarP(&format, "output", "o", "", "the output format: json or yaml (default: text)")
	return cmd
}

// whyFormat returns the function that writes the explanation in the format.
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
				return fmt.Errorf("write the explanation as YAML: %w", err)
			}
			_, err = w.Write(text)
			return err
		}, nil
	}
	return nil, codedError{fmt.Errorf("--output %q: want json or yaml; see: podium why --help", format), exitUsage}
}

// ownKubeconfig selects the node's own kubeconfig if none is given and it can be read.
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

// whyFacts reads the facts about a Pod or an owner of Pods.
func whyFacts(ctx context.Context, flags *genericclioptions.ConfigFlags, what string) (*why.Facts, error) {
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w; is a node running? otherwise give a kubeconfig with --kubeconfig", err)
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
	case "service", "services", "svc":
		if isOwner {
			return reader.Service(ctx, namespace, name)
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
		return nil, fmt.Errorf("read %s of namespace %s: got a %T", what, namespace, infos[0].Object)
	}
	return reader.Owner(ctx, owner)
}
