package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/docker/go-units"

	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/image"
)

// errNotOurs is what the image verbs say on a node that uses another runtime.
var errNotOurs = errors.New("this node uses another container runtime, which keeps the images; use that runtime's own tool")

// Status implements control.Daemon.
func (d *daemon) Status() control.Status {
	s := control.Status{PID: os.Getpid(), Root: d.c.Paths.Root, NodeName: d.c.NodeName, Kubeconfig: d.c.Paths.AdminKubeconfig}
	select {
	case <-d.ready:
		s.Ready = true
	default:
	}
	return s
}

// Stop implements control.Daemon.
func (d *daemon) Stop() { d.stop() }

// Trace implements control.Daemon.
func (d *daemon) Trace(namespace, name string) ([]control.Step, error) {
	select {
	case <-d.ready:
	default:
		return nil, errors.New("the node is still starting")
	}
	trace, ok := d.node.Trace(namespace, name)
	if !ok {
		return nil, errors.New("this node has no such Pod, and had none of late")
	}
	var out []control.Step
	for _, s := range trace.Steps {
		step := control.Step{Name: s.Name, Start: s.Start, Took: s.Took, Error: s.Err}
		if s.Container != "" {
			step.Name += " " + s.Container
		}
		out = append(out, step)
	}
	// They are kept in the order in which they ended; many go on side by side.
	slices.SortStableFunc(out, func(a, b control.Step) int { return a.Start.Compare(b.Start) })
	return out, nil
}

// opened returns the image store, which a daemon that is still starting may not have yet.
func (d *daemon) opened() (*image.Service, error) {
	if d.c.RuntimeEndpoint != "" {
		return nil, errNotOurs
	}
	if s := d.images.Load(); s != nil {
		return s, nil
	}
	return nil, errors.New("the image store is still being opened")
}

// ListImages implements control.Daemon.
func (d *daemon) ListImages(ctx context.Context) ([]control.Image, error) {
	store, err := d.opened()
	if err != nil {
		return nil, err
	}
	images, err := store.List(ctx)
	return imagesOf(images), err
}

func imagesOf(images []image.Image) []control.Image {
	out := make([]control.Image, 0, len(images))
	for _, i := range images {
		names := i.Tags
		if len(names) == 0 {
			names = i.Digests
		}
		out = append(out, control.Image{ID: i.ID, Names: names, Size: i.Size, Pinned: i.Pinned})
	}
	return out
}

// PullImage implements control.Daemon.
func (d *daemon) PullImage(ctx context.Context, ref string, progress func(string)) (control.Image, error) {
	store, err := d.opened()
	if err != nil {
		return control.Image{}, err
	}
	got, err := store.Pull(ctx, ref, nil, func(p image.Progress) { progress(progressLine(p)) })
	if err != nil {
		return control.Image{}, err
	}
	return imagesOf([]image.Image{got})[0], nil
}

// progressLine says how far a pull is.
func progressLine(p image.Progress) string {
	return fmt.Sprintf("%s: %d of %d layers, %s of %s", p.Ref, p.LayersDone, p.Layers,
		units.HumanSize(float64(p.BytesDone)), units.HumanSize(float64(p.Bytes)))
}

// LoadImage implements control.Daemon.
func (d *daemon) LoadImage(ctx context.Context, archive string) ([]control.Image, error) {
	store, err := d.opened()
	if err != nil {
		return nil, err
	}
	images, err := store.Load(ctx, archive)
	return imagesOf(images), err
}

// RemoveImage implements control.Daemon.
func (d *daemon) RemoveImage(ctx context.Context, ref string) error {
	store, err := d.opened()
	if err != nil {
		return err
	}
	return store.Remove(ctx, ref)
}

// ExportImage implements control.Daemon.
func (d *daemon) ExportImage(ctx context.Context, ref string, to io.Writer) error {
	store, err := d.opened()
	if err != nil {
		return err
	}
	return store.Export(ctx, ref, to)
}
