package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"podium.dev/podium/internal/scheduler"
)

// startScheduler runs the scheduler in this process, as a client of the API, like Podium.
func startScheduler(ctx context.Context, config *rest.Config) (stop func() error, err error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- scheduler.New(client, scheduler.Options{}).Run(ctx) }()
	return func() error { cancel(); return <-done }, nil
}

// startProcess runs the scheduler in a process of its own.
func startProcess(kubeconfig []byte) (cmd *exec.Cmd, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "schedbench-")
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		return nil, nil, err
	}
	cmd = exec.Command(self, childArgument, path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return cmd, func() error {
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		_ = cmd.Wait() // it was killed
		return os.RemoveAll(dir)
	}, nil
}
