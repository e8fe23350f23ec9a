package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"podium.dev/podium/internal/scheduler"
)

// childArgument makes this program run only the scheduler, so that its memory can be measured apart from the
// API server's. A kubeconfig follows.
const childArgument = "-scheduler-only"

func runChild(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.ContentType = -1, "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return scheduler.New(client, scheduler.Options{}).Run(ctx)
}

// measureMemory measures the memory of the scheduler in a process of its own, and that of the API server and
// the store in this process, with many Pods on the nodes.
func (c *cluster) measureMemory(ctx context.Context, o options, r *results) (err error) {
	there := 0
	for _, ns := range []string{before, measured} {
		list, err := c.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		there += len(list.Items)
	}
	if err := each(ctx, o.memory-there, func(i int) error {
		p := podOf(before, "memory", i)
		p.Spec.NodeName = nodeName(i % c.nodes)
		return c.create(ctx, p)
	}); err != nil {
		return err
	}
	scheduler := memory{what: "the scheduler, in a process of its own", nodes: c.nodes, pods: o.memory}
	if scheduler.bytes, err = c.memoryOfScheduler(ctx); err != nil {
		return err
	}
	server := memory{what: "API server, store and this program", nodes: c.nodes, pods: o.memory}
	if server.bytes, err = pss(os.Getpid()); err != nil {
		return err
	}
	r.memory = append(r.memory, scheduler, server)
	return nil
}

func (c *cluster) memoryOfScheduler(ctx context.Context) (n int64, err error) {
	cmd, stop, err := startProcess(c.server.Kubeconfig)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := c.awake(ctx); err != nil {
		return 0, err
	}
	return pss(cmd.Process.Pid)
}

// pss returns the proportional set size of a process in bytes.
func pss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var kib int64
		if strings.HasPrefix(lines.Text(), "Pss:") {
			_, err := fmt.Sscanf(lines.Text(), "Pss: %d kB", &kib)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not report the PSS")
}
