// Command bench measures a Podium node from its users' point of view, next to a bare `runc run` of the same
// image in the same minute and, given the kubeconfig of another cluster, next to that cluster. It prints a
// Markdown table.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

type options struct {
	podium, peer, image, peerImage, bundle string
	rounds                                 int
	burst                                  []int
	many                                   int
	idle                                   int
	soak                                   int
	seed                                   uint64
}

func main() {
	var o options
	flag.StringVar(&o.podium, "podium", "bin/podium", "the binary to measure")
	flag.StringVar(&o.image, "image", "podium.local/demo/shell:1", "an image of the node with sh and sleep")
	flag.StringVar(&o.peer, "peer", "", "kubeconfig of another cluster to measure as well")
	flag.StringVar(&o.peerImage, "peer-image", "registry.k8s.io/e2e-test-images/busybox:1.37.0-2", "an image with sh and sleep for the other cluster")
	flag.StringVar(&o.bundle, "images", "", "folder of the archives that a fresh node loads")
	flag.IntVar(&o.rounds, "rounds", 20, "rounds of each figure")
	flag.IntVar(&o.many, "many", 200, "Pods with which the growth of memory is measured; 0: not measured")
	flag.IntVar(&o.idle, "idle", 60, "seconds over which the idle node is watched; 0: not measured")
	flag.IntVar(&o.soak, "soak", 2000, "Pods that come and go in the soak; 0: none")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the soak; 0: one of the moment, which is printed")
	only := flag.Bool("only-soak", false, "nothing but the soak")
	flag.Parse()
	o.burst = []int{50, 100}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	do := run
	if *only {
		do = runSoak
	}
	if err := do(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	ours, theirs := &results{}, &results{}
	if err := measureStart(ctx, o, ours); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := measureStatic(ctx, o, ours); err != nil {
		return fmt.Errorf("static Pods: %w", err)
	}
	node, err := startNode(ctx, o)
	if err != nil {
		return err
	}
	defer node.down()
	if err := measureIdle(ctx, o, node, ours); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	if err := measureRunc(ctx, o, node, ours); err != nil {
		return fmt.Errorf("runc: %w", err)
	}
	if err := measureCluster(ctx, o, node.kubeconfig(), o.image, ours); err != nil {
		return err
	}
	if err := measureProbes(ctx, o, node, ours); err != nil {
		return fmt.Errorf("Pods with probes: %w", err)
	}
	if err := measureMany(ctx, o, node, ours); err != nil {
		return fmt.Errorf("many Pods: %w", err)
	}
	if err := measureSoak(ctx, o, ours); err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	if o.peer != "" {
		if err := measureCluster(ctx, o, o.peer, o.peerImage, theirs); err != nil {
			return fmt.Errorf("the other cluster: %w", err)
		}
	}
	printTable(os.Stdout, ours, theirs)
	return nil
}

// runSoak is run without any other measurement.
func runSoak(ctx context.Context, o options) error {
	ours := &results{}
	if err := measureSoak(ctx, o, ours); err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	printTable(os.Stdout, ours, &results{})
	return nil
}
