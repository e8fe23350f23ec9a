package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"podium.dev/podium/internal/util/inotify"
)

// firstWord is how long a static Pod may take to run.
const firstWord = 30 * time.Second

// staticPods puts manifests into a node's folder and observes through inotify when their containers run.
type staticPods struct {
	node  *node
	image string
	// said is the folder that the containers write into, changes the kernel's notifications about it.
	said    string
	changes <-chan []inotify.Change
}

func newStaticPods(ctx context.Context, n *node, image string) (*staticPods, error) {
	said, err := os.MkdirTemp("", "podium-bench-static-")
	if err != nil {
		return nil, err
	}
	w, err := inotify.New()
	if err != nil {
		return nil, err
	}
	if _, err := w.Follow(said); err != nil {
		return nil, err
	}
	broken := func(err error) { fmt.Fprintln(os.Stderr, "the watch of the static Pods' folder ended:", err) }
	return &staticPods{node: n, image: image, said: said, changes: w.Changes(ctx, broken)}, os.MkdirAll(n.paths.Manifests, 0o755)
}

// drop puts a manifest in place. The container first creates a file with the Pod's name.
func (s *staticPods) drop(name string) error {
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n"+
		"  containers: [{name: c, image: %q, command: [sh, -c, 'touch /said/%s; exec sleep 3600'], volumeMounts: [{name: said, mountPath: /said}]}]\n"+
		"  volumes: [{name: said, hostPath: {path: %s}}]\n", name, s.image, name, s.said)
	part := filepath.Join(s.node.paths.Root, name+".part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(s.node.paths.Manifests, name+".yaml"))
}

// await waits until the container of a Pod has created its file, and removes the file.
func (s *staticPods) await(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firstWord, fmt.Errorf("static Pod %s does not run after %v", name, firstWord))
	defer cancel()
	word := filepath.Join(s.said, name)
	for {
		err := os.Remove(word)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-s.changes:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// measureStatic takes the time from a manifest in the folder to its running container, and from `up` on a
// stopped node to the running static Pod.
func measureStatic(ctx context.Context, o options, r *results) error {
	n, err := startNode(ctx, o)
	if err != nil {
		return err
	}
	defer n.down()
	s, err := newStaticPods(ctx, n, o.image)
	if err != nil {
		return err
	}
	defer os.RemoveAll(s.said)
	var dropped, again []time.Duration
	for i := range o.rounds {
		name := fmt.Sprintf("static-%d", i)
		began := time.Now()
		if err := errors.Join(s.drop(name), s.await(ctx, name)); err != nil {
			return err
		}
		dropped = append(dropped, time.Since(began))
		if i < o.rounds-1 {
			if err := os.Remove(filepath.Join(n.paths.Manifests, name+".yaml")); err != nil {
				return err
			}
		}
	}
	name := fmt.Sprintf("static-%d", o.rounds-1) // the last one is still there
	for range max(o.rounds/4, 3) {
		if out, err := exec.CommandContext(ctx, o.podium, "down", "--root", n.paths.Root).CombinedOutput(); err != nil {
			return fmt.Errorf("podium down: %w\n%s", err, out)
		}
		began := time.Now()
		ready := make(chan error, 1)
		go func() { ready <- n.up(ctx) }()
		if err := s.await(ctx, name); err != nil {
			return err
		}
		again = append(again, time.Since(began))
		if err := <-ready; err != nil {
			return err
		}
	}
	r.times("static Pod: file in the folder → container runs", dropped)
	r.times("`up` on a stopped node → static Pod runs", again)
	return nil
}
