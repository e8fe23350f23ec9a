package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/paths"
)

// node is a Podium node under measurement.
type node struct {
	podium, bind string
	paths        paths.Paths
}

// startNode starts a daemon on a fresh root that has the images.
func startNode(ctx context.Context, o options) (*node, error) {
	root, err := os.MkdirTemp("", "podium-bench-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &node{podium: o.podium, bind: l.Addr().String(), paths: paths.For(root)}
	l.Close()
	archives, err := filepath.Glob(filepath.Join(o.bundle, "*.tar"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(n.paths.Images, 0o700); err != nil {
		return nil, err
	}
	for _, a := range archives {
		if err := os.Symlink(a, filepath.Join(n.paths.Images, filepath.Base(a))); err != nil {
			return nil, err
		}
	}
	if err := n.configure(o.many + 20); err != nil {
		return nil, err
	}
	return n, n.up(ctx)
}

// configure sets maxPods to the given number, or to the default if that is higher; a /24 range holds 253 Pods.
// Only memory pressure evicts, because the state of the machine's disk is not what is measured.
func (n *node) configure(pods int) error {
	if err := os.MkdirAll(n.paths.Kubelet, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: %d\n"+
		"staticPodPath: %s\npodLogsDir: %s\nfailSwapOn: false\nevictionHard: {memory.available: 100Mi}\nimageGCHighThresholdPercent: 100\n",
		max(pods, 110), n.paths.Manifests, n.paths.PodLogs)
	return os.WriteFile(filepath.Join(n.paths.Kubelet, "config.yaml"), []byte(text), 0o600)
}

func (n *node) up(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, n.podium, "up", "--detach", "--root", n.paths.Root, "--bind", n.bind).CombinedOutput()
	if err != nil {
		return fmt.Errorf("podium up: %w\n%s", err, out)
	}
	return nil
}

func (n *node) down() {
	if out, err := exec.Command(n.podium, "down", "--purge", "--root", n.paths.Root).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "podium down: %v\n%s", err, out)
	}
}

func (n *node) kubeconfig() string { return n.paths.AdminKubeconfig }

func (n *node) pid(ctx context.Context) (int, error) {
	s, err := control.NewClient(n.paths.ControlSocket).Status(ctx)
	return s.PID, err
}

// measureStart takes the time from an empty root to a Ready node, and the time of a second start on the same
// root.
func measureStart(ctx context.Context, o options, r *results) error {
	var fresh, again []time.Duration
	bare := o
	bare.bundle, bare.many = "", 0
	for range o.rounds {
		began := time.Now()
		n, err := startNode(ctx, bare)
		if err != nil {
			return err
		}
		fresh = append(fresh, time.Since(began))
		pid, err := n.pid(ctx)
		if err != nil {
			return err
		}
		if err := control.NewClient(n.paths.ControlSocket).Stop(ctx); err != nil {
			return err
		}
		waitExit(pid)
		began = time.Now()
		if err := n.up(ctx); err != nil {
			return err
		}
		again = append(again, time.Since(began))
		n.down()
	}
	r.times("`up` on an empty root → node Ready", fresh)
	r.times("`up` on a known root → node Ready", again)
	info, err := os.Stat(o.podium)
	if err != nil {
		return err
	}
	r.bytes("size of the binary", info.Size())
	return nil
}

// measureRunc takes the time of a bare `runc run` of `true` in the image's files, if runc is installed.
func measureRunc(ctx context.Context, o options, n *node, r *results) error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		r.set("bare `runc run` of `true`", "runc is not installed")
		return nil
	}
	bundle, err := os.MkdirTemp("", "podium-bench-runc-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bundle)
	if err := unpack(ctx, n, o.image, filepath.Join(bundle, "rootfs")); err != nil {
		return err
	}
	spec := exec.CommandContext(ctx, runc, "spec")
	spec.Dir = bundle
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("runc spec: %w\n%s", err, out)
	}
	config := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	changed := strings.NewReplacer(`"terminal": true`, `"terminal": false`, `"sh"`, `"/bin/true"`).Replace(string(text))
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		return err
	}
	var all []time.Duration
	for i := range o.rounds {
		cmd := exec.CommandContext(ctx, runc, "run", fmt.Sprintf("podium-bench-%d-%d", os.Getpid(), i))
		cmd.Dir = bundle
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("runc run: %w\n%s", err, out)
		}
		all = append(all, time.Since(began))
	}
	r.times("bare `runc run` of `true` in the same image", all)
	return nil
}

// unpack writes the files of an image's layers into a folder.
func unpack(ctx context.Context, n *node, image, into string) error {
	archive := into + ".tar"
	if out, err := exec.CommandContext(ctx, n.podium, "--root", n.paths.Root, "image", "export", image, "-o", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("podium image export: %w\n%s", err, out)
	}
	script := `set -e; mkdir -p "$1" "$1.d"; tar -xf "$1.tar" -C "$1.d"
for l in $(find "$1.d" -type f -size +1k); do tar -xf "$l" -C "$1" 2>/dev/null || true; done`
	if out, err := exec.CommandContext(ctx, "bash", "-c", script, "bash", into).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", image, err, out)
	}
	return nil
}
