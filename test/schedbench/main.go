// Command schedbench measures the scheduler on hollow nodes, which are objects only: how long a decision takes,
// alone and with the real API server and store, how soon a waiting Pod is placed when room appears, and how
// much memory is used. It writes tables and a plot into docs.
//
// The workloads are those of Kubernetes' scheduler_perf.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

type options struct {
	sizes   []int         // clusters through the API
	pods    int           // measured Pods of each workload through the API
	limit   time.Duration // for one figure of the scheduler alone
	memory  int           // Pods for the memory figure; 0: not measured
	only    string        // the workload to measure, "" for all
	profile string        // file for the CPU profile, "" for none
	docs    string        // folder for the tables and the plot, "" for none
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == childArgument {
		fail(runChild(os.Args[2]))
		return
	}
	var o options
	sizes := flag.String("sizes", "100,1000,5000", "numbers of nodes of the clusters that are measured through the API")
	flag.IntVar(&o.pods, "pods", 500, "Pods of each workload that are measured through the API; 0: none")
	flag.DurationVar(&o.limit, "limit", 700*time.Millisecond, "the time limit for one figure of the scheduler alone")
	flag.IntVar(&o.memory, "memory", 50_000, "Pods with which the memory is measured on the largest cluster; 0: not measured")
	flag.StringVar(&o.only, "only", "", "measure only the workload with this name")
	flag.StringVar(&o.docs, "docs", "", "folder of scheduler-performance.md, in which the tables and the plot are replaced")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the runs through the API")
	flag.Parse()
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		fail(err)
		o.sizes = append(o.sizes, n)
	}
	silence()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schedbench:", err)
		os.Exit(1)
	}
}

// silence keeps the API server's log out of the tables.
func silence() {
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	_ = set.Parse([]string{"-logtostderr=false", "-alsologtostderr=false", "-stderrthreshold=FATAL"})
	klog.SetOutput(nowhere{})
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func run(ctx context.Context, o options) error {
	var r results
	if err := measureAlone(ctx, o, &r); err != nil {
		return fmt.Errorf("the scheduler alone: %w", err)
	}
	if o.pods > 0 {
		if err := measureThrough(ctx, o, &r); err != nil {
			return fmt.Errorf("through the API: %w", err)
		}
	}
	text := r.markdown(o)
	fmt.Print(text)
	if o.docs == "" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(o.docs, "scheduler-performance.svg"), r.plot(), 0o644); err != nil {
		return err
	}
	return replaceTables(filepath.Join(o.docs, "scheduler-performance.md"), text)
}
